//! Link arguments of the freestanding binary, and of nothing else: tests, benches and build scripts
//! keep the platform's defaults (RUSTFLAGS would reach those too). `linker/README.md` explains each.

fn main() {
    let Ok(directory) = std::env::var("CARGO_MANIFEST_DIR") else { return };
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=linker/preroot.ld");
    for argument in
        ["-nostartfiles", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,--gc-sections"]
    {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rustc-link-arg-bins=-Wl,-T,{directory}/linker/preroot.ld");
}
