//! The rules of the house: who may import whom, where unsafe, atomics and tokio may stand, how long a file and a
//! function may be. Each rule is a function over a path and a source text, and each is shown to catch a fault.

use std::collections::BTreeSet;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// A rule: what is wrong in a file, as lines of text.
type Rule = fn(&str, &str) -> Vec<String>;

/// Files of runtime and backend where unsafe may stand; all of ffi/arg.rs, ring, sync and process too.
const UNSAFE: &[&str] = &[
    "ffi/arg.rs",
    "ring/memory.rs",
    "ring/place.rs",
    "ring/receiver.rs",
    "ring/sender.rs",
    "ring/tests.rs",
    "sync.rs",
    "thread.rs",
    "process.rs",
    "runtime/block.rs",
    "arena.rs",
    "runtime/blocks.rs",
    "runtime/buffer.rs",
    "runtime/call.rs",
    "runtime/callback.rs",
    "runtime/calls.rs",
    "runtime/checkpoint.rs",
    "runtime/context.rs",
    "runtime/hazard.rs",
    "runtime/lease.rs",
    "runtime/remote.rs",
    "runtime/simulation.rs",
    "runtime/table.rs",
    "backend/cuda/device.rs",
    "backend/cuda/driver.rs",
    "backend/cuda/module.rs",
    "backend/cuda/nvrtc.rs",
    "backend/cuda/pool.rs",
    "backend/cuda/resident.rs",
    "backend/cuda/seat.rs",
    "backend/cuda/streams.rs",
];

/// Longest file and function, lines of code.
const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 70;

/// What a layer may use of this crate.
fn allowed(path: &str) -> &'static [&'static str] {
    match path {
        "lib.rs" => &[
            "arena", "error", "ffi", "layout", "runtime", "backend", "clock", "limits", "metrics", "process",
            "ring", "sync", "thread",
        ],
        "layout.rs" | "limits.rs" | "sync.rs" | "thread.rs" => &[],
        "error.rs" => &["layout", "thread"],
        "process.rs" => &["sync", "limits"],
        "arena.rs" => &["layout", "limits", "process", "sync"],
        "clock.rs" => &["layout", "sync"],
        "metrics.rs" => &["layout", "sync"],
        "backend/mod.rs" => &["error", "runtime"],
        _ if path.starts_with("ring/") => &["arena", "layout", "limits", "sync"],
        _ if path.starts_with("runtime/") => &[
            "arena", "ring", "layout", "limits", "clock", "metrics", "error", "sync", "thread", "process",
            "runtime",
        ],
        _ if path.starts_with("backend/cpu/") || path.starts_with("backend/cuda/") => {
            &["runtime", "ring", "layout", "limits", "clock", "metrics", "error", "sync", "process"]
        }
        _ if path.starts_with("ffi/") => {
            &["runtime", "backend", "error", "layout", "limits", "metrics", "clock", "process"]
        }
        _ => panic!("src/{path} belongs to no layer; tests/tidy.rs has the table"),
    }
}

/// Every path of a token stream that begins with `crate`, as its segments; groups of `use` are spread out.
fn crate_paths(tokens: TokenStream, found: &mut Vec<(usize, Vec<String>)>) {
    let trees: Vec<_> = tokens.into_iter().collect();
    let mut at = 0;
    while at < trees.len() {
        match &trees[at] {
            TokenTree::Ident(ident) if ident == "crate" => {
                let line = ident.span().start().line;
                at = follow(&trees, at + 1, &mut Vec::new(), line, found);
                continue;
            }
            TokenTree::Group(group) => crate_paths(group.stream(), found),
            _ => {}
        }
        at += 1;
    }
}

/// Follows `::a::b` or `::{a, b::c}` from `at` on; returns where it ends.
fn follow(
    trees: &[TokenTree],
    mut at: usize,
    prefix: &mut Vec<String>,
    line: usize,
    found: &mut Vec<(usize, Vec<String>)>,
) -> usize {
    let is_colon =
        |tree: Option<&TokenTree>| matches!(tree, Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    let depth = prefix.len();
    while is_colon(trees.get(at)) && is_colon(trees.get(at + 1)) {
        match trees.get(at + 2) {
            Some(TokenTree::Ident(ident)) => {
                prefix.push(ident.to_string());
                at += 3;
            }
            Some(TokenTree::Group(group)) => {
                let mut branch: Vec<TokenTree> = Vec::new();
                let mut branches = Vec::new();
                for tree in group.stream() {
                    match &tree {
                        TokenTree::Punct(punct) if punct.as_char() == ',' => {
                            branches.push(std::mem::take(&mut branch))
                        }
                        _ => branch.push(tree),
                    }
                }
                branches.push(branch);
                for branch in branches.iter().filter(|branch| !branch.is_empty()) {
                    let mut path = prefix.clone();
                    if let TokenTree::Ident(ident) = &branch[0] {
                        path.push(ident.to_string());
                        follow(branch, 1, &mut path, line, found);
                    }
                }
                prefix.truncate(depth);
                return at + 3;
            }
            _ => break,
        }
    }
    found.push((line, prefix.clone()));
    prefix.truncate(depth);
    at
}

/// The import table. `super` stays within a layer except from a layer's top file, which is checked by name.
fn imports(path: &str, source: &str) -> Vec<String> {
    let mut found = Vec::new();
    crate_paths(source.parse().expect("tokens"), &mut found);
    let mut faults: Vec<String> = found
        .iter()
        .filter(|(_, segments)| {
            segments.first().is_some_and(|first| !allowed(path).contains(&first.as_str()))
        })
        .map(|(line, segments)| format!("src/{path}:{line}: may not use crate::{}", segments.join("::")))
        .collect();
    if path.starts_with("ffi/") {
        faults.extend(
            found
                .iter()
                .filter(|(_, segments)| {
                    segments.first().is_some_and(|first| first == "backend") && segments.len() > 1
                })
                .filter(|(_, segments)| segments[1] != "open")
                .map(|(line, segments)| {
                    format!("src/{path}:{line}: ffi may use backend::open only, not {segments:?}")
                }),
        );
    }
    let climbs = path.matches('/').count();
    // Modules inside a file may climb out of themselves.
    let too_high = "super::".repeat((climbs + 1).max(2));
    faults.extend(lines_with(path, source, |line| line.contains(&too_high), "climbs out of its layer"));
    faults
}

fn lines_with(path: &str, source: &str, is_bad: impl Fn(&str) -> bool, what: &str) -> Vec<String> {
    source
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//") && is_bad(line))
        .map(|(index, line)| format!("src/{path}:{}: {what}: {}", index + 1, line.trim()))
        .collect()
}

/// Atomics come from sync, tokio from one file, libc from three places, cudarc from its backend.
fn foreign_names(path: &str, source: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let is_test = path.ends_with("tests.rs");
    let mut forbid = |name: &str, here: bool| {
        if !here {
            faults.extend(lines_with(
                path,
                source,
                |line| line.contains(name),
                "this name belongs elsewhere",
            ));
        }
    };
    forbid("sync::atomic", path == "sync.rs" || is_test);
    forbid("tokio::", path == "runtime/control.rs");
    forbid("block_on", path == "runtime/control.rs");
    forbid("cudarc", path.starts_with("backend/cuda/"));
    forbid("libc::", path == "sync.rs" || path == "process.rs" || path.starts_with("backend/"));
    for name in [
        "println!",
        "eprintln!",
        "dbg!(",
        "print!(",
        "atexit",
        "libc::signal",
        "libc::sigaction",
        "process::exit",
        "process::abort",
    ] {
        // A simulation is a test: it says its seed.
        forbid(name, name == "println!" && path == "runtime/simulation.rs");
    }
    faults
}

struct UnsafeFinder(Vec<usize>);

impl<'ast> Visit<'ast> for UnsafeFinder {
    fn visit_expr_unsafe(&mut self, node: &'ast syn::ExprUnsafe) {
        self.0.push(node.unsafe_token.span.start().line);
        visit::visit_expr_unsafe(self, node);
    }

    fn visit_item_impl(&mut self, node: &'ast syn::ItemImpl) {
        if let Some(token) = node.unsafety {
            self.0.push(token.span.start().line);
        }
        visit::visit_item_impl(self, node);
    }
}

/// Where unsafe blocks and impls may stand.
fn unsafe_places(path: &str, source: &str) -> Vec<String> {
    if UNSAFE.contains(&path) {
        return Vec::new();
    }
    let mut finder = UnsafeFinder(Vec::new());
    finder.visit_file(&syn::parse_file(source).expect("valid Rust"));
    finder.0.into_iter().map(|line| format!("src/{path}:{line}: unsafe is not for this file")).collect()
}

/// Exports are made in ffi only.
fn export_places(path: &str, source: &str) -> Vec<String> {
    if path.starts_with("ffi/") {
        return Vec::new();
    }
    lines_with(
        path,
        source,
        |line| line.contains("no_mangle") || line.contains("export_name"),
        "exports belong to ffi",
    )
}

/// Lines of code: neither blank nor comment, tests left out.
fn code_lines(source: &str, from: usize, to: usize, left_out: &[(usize, usize)]) -> usize {
    source
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(number, _)| (from..=to).contains(number))
        .filter(|(number, _)| !left_out.iter().any(|(first, last)| (first..=last).contains(&number)))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with("//"))
        .count()
}

#[derive(Default)]
struct Shapes {
    tests: Vec<(usize, usize)>,
    functions: Vec<(String, usize, usize)>,
}

impl<'ast> Visit<'ast> for Shapes {
    fn visit_item_mod(&mut self, node: &'ast syn::ItemMod) {
        let is_test = node.attrs.iter().any(|attribute| {
            attribute.path().is_ident("cfg")
                && matches!(&attribute.meta, syn::Meta::List(list) if list.tokens.to_string().contains("test"))
        });
        if is_test {
            self.tests.push((node.span().start().line, node.span().end().line));
        } else {
            visit::visit_item_mod(self, node);
        }
    }

    fn visit_item_fn(&mut self, node: &'ast syn::ItemFn) {
        let span = node.block.span();
        self.functions.push((node.sig.ident.to_string(), span.start().line, span.end().line));
        visit::visit_item_fn(self, node);
    }

    fn visit_impl_item_fn(&mut self, node: &'ast syn::ImplItemFn) {
        let span = node.block.span();
        self.functions.push((node.sig.ident.to_string(), span.start().line, span.end().line));
        visit::visit_impl_item_fn(self, node);
    }
}

/// Files and functions that can be read in one go.
fn sizes(path: &str, source: &str) -> Vec<String> {
    let mut shapes = Shapes::default();
    shapes.visit_file(&syn::parse_file(source).expect("valid Rust"));
    let mut faults = Vec::new();
    let lines = code_lines(source, 1, usize::MAX, &shapes.tests);
    // layout.rs is a list of definitions, one line each.
    if lines > FILE_LINES && path != "layout.rs" && !path.ends_with("tests.rs") {
        faults.push(format!("src/{path}: {lines} lines of code, more than {FILE_LINES}"));
    }
    for (name, from, to) in &shapes.functions {
        let lines = code_lines(source, *from, *to, &[]);
        if lines > FUNCTION_LINES && !path.ends_with("tests.rs") {
            faults.push(format!(
                "src/{path}:{from}: {name} has {lines} lines of code, more than {FUNCTION_LINES}"
            ));
        }
    }
    faults
}

/// Every file says what it is; one with atomics begins with its argument.
fn heads(path: &str, source: &str) -> Vec<String> {
    let head = source.lines().take_while(|line| line.starts_with("//!")).count();
    if head == 0 { vec![format!("src/{path}: does not begin with //!")] } else { Vec::new() }
}

fn files(folder: &Path, prefix: &str, found: &mut Vec<(String, String)>) {
    let mut entries: Vec<_> =
        std::fs::read_dir(folder).expect("src").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for entry in entries {
        let name = format!("{prefix}{}", entry.file_name().expect("a name").to_string_lossy());
        if entry.is_dir() {
            files(&entry, &format!("{name}/"), found);
        } else if name.ends_with(".rs") {
            found.push((name, std::fs::read_to_string(&entry).expect("a source file")));
        }
    }
}

fn check(rule: Rule) {
    let mut all = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut all);
    assert!(all.len() > 30, "only {} files were found", all.len());
    let faults: Vec<String> = all.iter().flat_map(|(path, source)| rule(path, source)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn catches(rule: Rule, path: &str, source: &str) {
    assert!(!rule(path, source).is_empty(), "not caught in {path}: {source}");
}

#[test]
fn the_import_table_holds() {
    check(imports);
    catches(imports, "ffi/kernel.rs", "use crate::ring::Ring;");
    catches(imports, "ffi/kernel.rs", "use crate::{error::Error, ring::Ring};");
    catches(imports, "ffi/kernel.rs", "fn f() { crate::backend::cpu::open() }");
    catches(imports, "runtime/kernel.rs", "use crate::backend::open;");
    catches(imports, "runtime/kernel.rs", "fn f() { super::super::ffi::x() }");
    catches(imports, "backend/cpu/mod.rs", "use crate::ffi::arg;");
    catches(imports, "ring/mod.rs", "use crate::error::Error;");
    catches(imports, "sync.rs", "use crate::limits::X;");
    assert!(
        imports("ffi/kernel.rs", "use crate::runtime::{KernelHandle, lease}; use crate::backend;").is_empty()
    );
}

#[test]
fn names_of_others_stand_where_they_belong() {
    check(foreign_names);
    catches(foreign_names, "runtime/kernel.rs", "use std::sync::atomic::AtomicU32;");
    catches(foreign_names, "ring/mod.rs", "use core::sync::atomic::AtomicU32;");
    catches(foreign_names, "runtime/kernel.rs", "use tokio::sync::Notify;");
    catches(foreign_names, "ffi/kernel.rs", "fn f() { handle.block_on(x) }");
    catches(foreign_names, "runtime/kernel.rs", "fn f() { libc::getpid(); }");
    catches(foreign_names, "runtime/log.rs", "fn f() { println!(); }");
    assert!(foreign_names("runtime/log.rs", "// println! is for nobody").is_empty());
}

#[test]
fn unsafe_stands_where_it_is_allowed() {
    check(unsafe_places);
    catches(unsafe_places, "ffi/kernel.rs", "fn f(p: *const u8) { unsafe { p.read() }; }");
    catches(unsafe_places, "runtime/kernel.rs", "unsafe impl Send for X {}");
    let used: BTreeSet<&str> = UNSAFE.iter().copied().collect();
    assert_eq!(used.len(), UNSAFE.len(), "a file is listed twice");
    for path in UNSAFE {
        let source = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(path));
        assert!(
            source.is_ok_and(|source| source.contains("unsafe")),
            "{path} needs no unsafe: take it off the list"
        );
    }
}

#[test]
fn exports_stand_in_ffi() {
    check(export_places);
    catches(export_places, "runtime/kernel.rs", "#[unsafe(no_mangle)] pub extern \"C\" fn rk_x() {}");
}

#[test]
fn files_and_functions_are_of_readable_size() {
    check(sizes);
    catches(sizes, "runtime/kernel.rs", &"const _: () = ();\n".repeat(FILE_LINES + 1));
    catches(sizes, "runtime/kernel.rs", &format!("fn f() {{\n{}}}", "let _ = 1;\n".repeat(FUNCTION_LINES)));
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}", "const _: () = ();\n".repeat(FILE_LINES + 1));
    assert!(sizes("runtime/kernel.rs", &tests).is_empty());
}

#[test]
fn every_file_says_what_it_is() {
    check(heads);
    catches(heads, "runtime/kernel.rs", "use std::fmt;");
}
