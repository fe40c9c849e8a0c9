//! Links the release binary so that functions of the same machine code are kept once: what generic code (above all the
//! reading of Kubernetes' types) makes in several crates is half of the program, and every page of it counts as memory.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=RUSTC_LINKER");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|v| v == value);
    // There the toolchain's own lld links, unless somebody chose another linker, which may not know the flag.
    let links_with_lld =
        is("TARGET", "x86_64-unknown-linux-gnu") && std::env::var_os("RUSTC_LINKER").is_none();
    if links_with_lld && is("PROFILE", "release") {
        println!("cargo:rustc-link-arg-bins=-Wl,--icf=all");
    }
}
