//! Linker facts that `Cargo.toml` cannot say: the SONAME, `-z nodelete`, and the version.
//!
//! * SONAME: without one, CMake bakes the absolute path of the build into every consumer.
//! * `-z nodelete`: worker threads and thread-local destructors live in this object; `dlclose` must not
//!   pull the code from under them.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let major = std::env::var("CARGO_PKG_VERSION_MAJOR").expect("cargo sets the version");
    let target_os = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    let number = |part: &str| {
        std::env::var(format!("CARGO_PKG_VERSION_{part}"))
            .ok()
            .and_then(|text| text.parse::<u32>().ok())
            .expect("cargo sets numeric version parts")
    };
    let packed = (number("MAJOR") << 16) | (number("MINOR") << 8) | number("PATCH");
    println!("cargo::rustc-env=RK_VERSION_NUMBER={packed}");
    if target_os == "linux" {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libringkernel.so.{major}");
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
