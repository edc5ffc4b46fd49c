//! libringkernel: persistent kernels as actors, behind a C ABI.
pub mod error;
pub mod ffi;
pub mod layout;
mod limits;
