//! `include/ringkernel.h` is what cbindgen makes of the source; a drift is a failure.
//!
//! `RK_WRITE_HEADER=1 cargo test --test header` writes it anew.

use std::path::Path;

#[test]
fn the_committed_header_is_what_the_source_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml is valid");
    let mut text = Vec::new();
    cbindgen::Builder::new()
        .with_config(config)
        .with_crate(root)
        .generate()
        .expect("cbindgen understands src/layout.rs and src/ffi")
        .write(&mut text);
    let made = String::from_utf8(text).expect("a header is text");
    let path = root.join("include/ringkernel.h");
    if std::env::var_os("RK_WRITE_HEADER").is_some() {
        std::fs::write(&path, &made).expect("include/ is writable");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == made,
        "include/ringkernel.h differs from the source; RK_WRITE_HEADER=1 cargo test --test header writes it"
    );
}
