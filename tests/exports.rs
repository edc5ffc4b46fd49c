//! The exports: the contract's names, each behind the one guard, each saying who may call it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use syn::{Attribute, Expr, Item, ReturnType, Stmt};

/// The functions of the contract, noun by noun.
const CONTRACT: &[&str] = &[
    "rk_version",
    "rk_version_string",
    "rk_abi_version",
    "rk_has_feature",
    "rk_status_name",
    "rk_status_text",
    "rk_last_error",
    "rk_last_backend_code",
    "rk_set_logger",
    "rk_runtime_create",
    "rk_runtime_backend",
    "rk_runtime_is_backend_available",
    "rk_runtime_shutdown",
    "rk_runtime_destroy",
    "rk_program_register",
    "rk_program_unregister",
    "rk_launch",
    "rk_launch_async",
    "rk_get",
    "rk_list",
    "rk_activate",
    "rk_deactivate",
    "rk_terminate",
    "rk_terminate_async",
    "rk_wait",
    "rk_destroy",
    "rk_kernel_name",
    "rk_kernel_state",
    "rk_kernel_status",
    "rk_send",
    "rk_send_batch",
    "rk_reserve",
    "rk_commit",
    "rk_abort",
    "rk_reserve_batch",
    "rk_commit_batch",
    "rk_receive",
    "rk_receive_batch",
    "rk_release",
    "rk_release_batch",
    "rk_call",
    "rk_call_async",
    "rk_receive_dead_letter",
    "rk_context_state",
    "rk_context_user_data",
    "rk_context_shared",
    "rk_context_kernel",
    "rk_context_block",
    "rk_context_block_count",
    "rk_context_thread",
    "rk_context_thread_count",
    "rk_context_sync",
    "rk_context_stopping",
    "rk_context_grid_sync",
    "rk_context_now",
    "rk_context_reply",
    "rk_context_emit",
    "rk_context_send",
    "rk_connect",
    "rk_disconnect",
    "rk_poll",
    "rk_event_fd",
    "rk_watch",
    "rk_cancel",
    "rk_metrics",
    "rk_kernel_metrics",
    "rk_metrics_text",
    "rk_explain",
    "rk_trace_start",
    "rk_trace_stop",
    "rk_checkpoint",
    "rk_restore",
    "rk_runtime_options_init",
    "rk_program_init",
    "rk_launch_options_init",
    "rk_kernel_status_init",
    "rk_runtime_metrics_init",
    "rk_kernel_metrics_init",
];

/// How documentation says who may call: the contract's phrases, and the two of handlers.
const PHRASES: &[&str] = &[
    "Any thread",
    "any thread",
    "ne thread at a time",
    "not from a handler",
    "Inside a handler",
    "Inside on_message",
];

struct Export {
    name: String,
    file: PathBuf,
    fault: Option<String>,
}

fn is_export(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let text = match &attribute.meta {
            syn::Meta::List(list) => format!("{}({})", path_text(&list.path), list.tokens),
            meta => path_text(meta.path()),
        };
        text.contains("no_mangle") || text.contains("export_name")
    })
}

fn path_text(path: &syn::Path) -> String {
    path.segments.iter().map(|segment| segment.ident.to_string()).collect::<Vec<_>>().join("::")
}

fn documentation(attributes: &[Attribute]) -> String {
    let mut text = String::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("doc")) {
        if let syn::Meta::NameValue(value) = &attribute.meta
            && let Expr::Lit(literal) = &value.value
            && let syn::Lit::Str(line) = &literal.lit
        {
            text.push_str(line.value().trim());
            text.push(' ');
        }
    }
    text
}

/// The exports of a source text, with what is wrong with each.
fn exports_of(file: &Path, source: &str) -> Vec<Export> {
    let parsed = syn::parse_file(source).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut exports = Vec::new();
    for item in parsed.items {
        let Item::Fn(function) = item else { continue };
        if !is_export(&function.attrs) {
            continue;
        }
        let returns_status = matches!(&function.sig.output, ReturnType::Type(_, kind)
            if matches!(&**kind, syn::Type::Path(path) if path.path.is_ident("RkStatus")));
        let guard = match &function.block.stmts[..] {
            [Stmt::Expr(Expr::Call(call), None)] => match &*call.func {
                Expr::Path(path) => path_text(&path.path),
                _ => String::new(),
            },
            _ => String::new(),
        };
        let documentation = documentation(&function.attrs);
        let of_status = ["guard::status", "guard::short_or_status"];
        let of_values = ["guard::value", "guard::plain"];
        let fault = if ![of_status, of_values].concat().contains(&guard.as_str()) {
            Some("its body is not one call of the guard".to_owned())
        } else if returns_status != of_status.contains(&guard.as_str()) {
            Some(format!("it goes through {guard}"))
        } else if !PHRASES.iter().any(|phrase| documentation.contains(phrase)) {
            Some("its documentation does not say which thread may call it".to_owned())
        } else {
            None
        };
        exports.push(Export { name: function.sig.ident.to_string(), file: file.to_owned(), fault });
    }
    exports
}

fn all_exports() -> Vec<Export> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ffi");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("src/ffi").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
        .iter()
        .flat_map(|file| exports_of(file, &std::fs::read_to_string(file).expect("a source file")))
        .collect()
}

fn contract() -> BTreeSet<String> {
    CONTRACT.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn no_export_bypasses_the_guard() {
    let exports = all_exports();
    assert!(exports.len() > 70, "only {} exports were found", exports.len());
    let faults: Vec<_> = exports
        .iter()
        .filter_map(|export| {
            Some(format!("{} in {}: {}", export.name, export.file.display(), export.fault.as_ref()?))
        })
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_walk_sees_an_export_that_bypasses_the_guard() {
    let bad = [
        "/// Any thread.\n#[unsafe(no_mangle)] pub extern \"C\" fn rk_x() -> RkStatus { 0 }",
        "/// Any thread.\n#[unsafe(no_mangle)] pub extern \"C\" fn rk_x() -> RkStatus { let y = 1; guard::status(|| Ok(())) }",
        "/// Any thread.\n#[unsafe(no_mangle)] pub extern \"C\" fn rk_x() -> RkStatus { guard::plain(0, || 0) }",
        "/// Any thread.\n#[unsafe(no_mangle)] pub extern \"C\" fn rk_x() -> u32 { guard::status(|| Ok(())) }",
        "/// Nothing.\n#[unsafe(no_mangle)] pub extern \"C\" fn rk_x() -> RkStatus { guard::status(|| Ok(())) }",
    ];
    for source in bad {
        assert!(exports_of(Path::new("bad.rs"), source)[0].fault.is_some(), "{source}");
    }
    let good = "/// Any thread.\n#[unsafe(no_mangle)] pub extern \"C\" fn rk_x() -> RkStatus { guard::status(|| Ok(())) }";
    assert!(exports_of(Path::new("good.rs"), good)[0].fault.is_none());
}

#[test]
fn source_and_header_and_contract_name_the_same_functions() {
    let source: BTreeSet<_> = all_exports().into_iter().map(|export| export.name).collect();
    assert_eq!(source, contract(), "source against contract");
    let header = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("include/ringkernel.h"))
        .expect("the header");
    let declared: BTreeSet<_> = header
        .lines()
        .filter(|line| !line.starts_with([' ', '*', '/', '#']) && !line.starts_with("typedef"))
        .filter_map(|line| {
            let before = line.split('(').next().filter(|before| before.len() < line.len())?;
            let name = before.rsplit([' ', '*']).next()?;
            name.starts_with("rk_").then(|| name.to_owned())
        })
        .collect();
    assert_eq!(declared, contract(), "header against contract");
}

#[test]
fn the_shared_library_exports_the_contract_and_nothing_else() {
    let mut folder = std::env::current_exe().expect("this test");
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    let library = folder.join("libringkernel.so");
    assert!(library.exists(), "{} is missing; `cargo build` makes it", library.display());
    let output = Command::new("nm").args(["-D", "--defined-only"]).arg(&library).output().expect("nm runs");
    assert!(output.status.success());
    let exported: BTreeSet<_> = String::from_utf8(output.stdout)
        .expect("names are text")
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2).map(str::to_owned))
        .collect();
    assert_eq!(exported, contract());
}
