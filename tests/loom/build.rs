//! The files of the library that are modelled here see loom's types instead of the real ones.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(rk_loom)");
    println!("cargo::rustc-cfg=rk_loom");
    println!("cargo::rerun-if-changed=build.rs");
}
