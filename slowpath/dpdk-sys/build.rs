//! Finds libdpdk, generates the bindings, compiles the shim and links DPDK's archives.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

/// What the bindings hold: only what the safe wrapper uses.
const FUNCTIONS: &[&str] = &[
    "carom_.*",
    "rte_dev_name",
    "rte_dev_remove",
    "rte_eal_has_hugepages",
    "rte_eal_hotplug_add",
    "rte_eal_get_runtime_dir",
    "rte_eal_init",
    "rte_eth_allmulticast_enable",
    "rte_eth_dev_adjust_nb_rx_tx_desc",
    "rte_eth_dev_close",
    "rte_eth_dev_configure",
    "rte_eth_dev_get_mtu",
    "rte_eth_dev_get_name_by_port",
    "rte_eth_dev_get_port_by_name",
    "rte_eth_dev_info_get",
    "rte_eth_dev_rss_hash_conf_get",
    "rte_eth_dev_rss_reta_query",
    "rte_eth_dev_set_mtu",
    "rte_eth_dev_socket_id",
    "rte_eth_dev_start",
    "rte_eth_dev_stop",
    "rte_eth_find_next",
    "rte_eth_from_rings",
    "rte_eth_macaddr_get",
    "rte_eth_promiscuous_enable",
    "rte_eth_rx_queue_setup",
    "rte_eth_stats_get",
    "rte_eth_tx_queue_setup",
    "rte_malloc_get_socket_stats",
    "rte_mempool_avail_count",
    "rte_mempool_in_use_count",
    "rte_pktmbuf_copy",
    "rte_ring_create",
    "rte_ring_free",
    "rte_strerror",
    "rte_swx_ctl_action_arg_info_get",
    "rte_swx_ctl_pipeline_regarray_read",
    "rte_swx_ctl_pipeline_regarray_write",
    "rte_swx_pipeline_action_config",
    "rte_swx_pipeline_build",
    "rte_swx_pipeline_config",
    "rte_swx_pipeline_flush",
    "rte_swx_pipeline_free",
    "rte_swx_pipeline_instructions_config",
    "rte_swx_pipeline_packet_header_register",
    "rte_swx_pipeline_packet_metadata_register",
    "rte_swx_pipeline_port_in_config",
    "rte_swx_pipeline_port_in_type_register",
    "rte_swx_pipeline_port_out_config",
    "rte_swx_pipeline_port_out_type_register",
    "rte_swx_pipeline_regarray_config",
    "rte_swx_pipeline_run",
    "rte_swx_pipeline_struct_type_register",
    "rte_swx_pipeline_table_config",
    "rte_swx_pipeline_table_state_get",
    "rte_swx_pipeline_table_state_set",
    "rte_thread_register",
    "rte_thread_unregister",
    "rte_version",
];
const TYPES: &[&str] = &["rte_eth_fp_ops", "rte_eth_rss_reta_entry64"];
const VARIABLES: &[&str] = &[
    "CAROM_.*",
    "RING_F_.*",
    "RTE_ETH_NAME_MAX_LEN",
    "RTE_ETH_RETA_GROUP_SIZE",
    "RTE_ETH_SPEED_NUM_UNKNOWN",
    "RTE_LOG_.*",
    "RTE_SWX_INSTRUCTION_SIZE",
    "RTE_SWX_NAME_SIZE",
    "rte_eth_fp_ops",
    "rte_swx_table_exact_match_ops",
    "rte_swx_table_exact_match_unoptimized_ops",
];
/// Types whose layout the generator cannot express (packed with an aligned member, bit fields over unions), or which
/// differ between releases. Pointers to them are all that is needed.
const OPAQUE: &[&str] = &[
    "rte_mbuf",
    "rte_mempool",
    "rte_ring",
    "rte_arp_hdr",
    "rte_arp_ipv4",
    "rte_gtp_psc_.*",
    "rte_ecpri.*",
    "rte_l2tpv2.*",
];

/// Drivers a packet forwarder needs: everything that registers itself in a constructor is linked whole. Crypto,
/// compression, event, baseband, regex and the like are left out.
const DRIVER_CLASSES: &[&str] = &["bus", "common", "mempool", "net"];
/// Common code of drivers that are left out; the first would pull OpenSSL and the IPsec library in.
const UNUSED_COMMON: &[&str] = &["rte_common_qat", "rte_common_cpt"];
const OTHER_DRIVER_CLASSES: &[&str] =
    &["baseband", "compress", "crypto", "dma", "event", "gpu", "ml", "raw", "regex", "vdpa"];

fn main() {
    println!("cargo:rerun-if-changed=c/shim.h");
    println!("cargo:rerun-if-changed=c/shim.c");
    println!("cargo:rerun-if-env-changed=PKG_CONFIG_PATH");
    println!("cargo:rerun-if-env-changed=LIBCLANG_PATH");

    let flags = pkg_config(&["--cflags"]);
    compile_shim(&flags);
    generate_bindings(&flags);
    link(&pkg_config(&["--static", "--libs"]));
}

/// What `pkg-config` says about libdpdk, word by word.
fn pkg_config(arguments: &[&str]) -> Vec<String> {
    let program = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".into());
    let output = Command::new(&program).args(arguments).arg("libdpdk").output();
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect()
        }
        Ok(output) => fail(&format!(
            "libdpdk was not found. Debian and Ubuntu: apt-get install libdpdk-dev. A DPDK of your own: set \
             PKG_CONFIG_PATH to the directory of its libdpdk.pc. pkg-config says: {}",
            String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default()
        )),
        Err(error) => fail(&format!("{program} does not run ({error}). Debian and Ubuntu: apt-get install pkg-config")),
    }
}

fn compile_shim(flags: &[String]) {
    let mut build = cc::Build::new();
    build.file("c/shim.c").warnings(true).opt_level(3);
    // DPDK's headers are taken as system headers, so that only the shim's own warnings show.
    for flag in system_includes(flags) {
        build.flag(flag);
    }
    if let Err(error) = build.try_compile("carom_dpdk_shim") {
        fail(&format!("the C shim does not compile. Debian and Ubuntu: apt-get install gcc libc6-dev. {error}"));
    }
}

fn generate_bindings(flags: &[String]) {
    // bindgen loads libclang at run time and panics without it; the hook turns that into the line a user needs.
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.payload().downcast_ref::<String>().map_or("bindgen failed", String::as_str);
        fail(&format!(
            "the bindings could not be generated. Debian and Ubuntu: apt-get install clang libclang-dev. {text}"
        ));
    }));
    let mut builder = bindgen::Builder::default()
        .header("c/shim.h")
        .clang_args(system_includes(flags))
        .use_core()
        .layout_tests(false)
        .generate_comments(false)
        .prepend_enum_name(false)
        .derive_debug(false)
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()));
    for name in FUNCTIONS {
        builder = builder.allowlist_function(name);
    }
    for name in TYPES {
        builder = builder.allowlist_type(name);
    }
    for name in VARIABLES {
        builder = builder.allowlist_var(name);
    }
    for name in OPAQUE {
        builder = builder.opaque_type(name);
    }
    let bindings = match builder.generate() {
        Ok(bindings) => bindings,
        Err(error) => fail(&format!("DPDK's headers could not be read: {error}")),
    };
    let path = out_dir().join("bindings.rs");
    if let Err(error) = bindings.write_to_file(&path) {
        fail(&format!("{} could not be written: {error}", path.display()));
    }
    let _ = std::panic::take_hook();
}

/// The include flags with each `-I` as `-isystem`.
fn system_includes(flags: &[String]) -> Vec<String> {
    let mut out = Vec::new();
    for flag in flags {
        match flag.strip_prefix("-I") {
            Some(path) => out.extend(["-isystem".to_owned(), path.to_owned()]),
            None => out.push(flag.clone()),
        }
    }
    out
}

/// Links DPDK's archives: drivers whole, libraries by need, in the order pkg-config gives, then the system libraries
/// which those need.
fn link(words: &[String]) {
    let mut archives = Vec::new();
    for word in words {
        if let Some(path) = word.strip_prefix("-L") {
            println!("cargo:rustc-link-search=native={path}");
        } else if let Some(name) = word.strip_prefix("-l:lib").and_then(|name| name.strip_suffix(".a")) {
            archives.push(name);
        }
    }
    if archives.is_empty() {
        fail("this libdpdk has no static libraries (librte_eal.a …). Build DPDK with -Ddefault_library=static or both");
    }
    for name in archives {
        match name.strip_prefix("rte_").and_then(|rest| rest.split_once('_')) {
            _ if UNUSED_COMMON.contains(&name) => {}
            Some((class, _)) if DRIVER_CLASSES.contains(&class) => {
                println!("cargo:rustc-link-lib=static:+whole-archive,-bundle={name}");
            }
            Some((class, _)) if OTHER_DRIVER_CLASSES.contains(&class) => {}
            _ => println!("cargo:rustc-link-lib=static:-bundle={name}"),
        }
    }
    link_system_libraries(words);
}

/// The shared libraries behind the drivers. pkg-config also lists what static versions of those would need (and which
/// need not be installed); what has no `.so` here is therefore left out, and so is, by `--as-needed`, what is not used.
fn link_system_libraries(words: &[String]) {
    let compiler = cc::Build::new().get_compiler();
    let mut seen = std::collections::HashSet::new();
    for name in words.iter().filter_map(|word| word.strip_prefix("-l")) {
        if name.starts_with(':') || name.starts_with("rte_") || !seen.insert(name) {
            continue;
        }
        let file = format!("lib{name}.so");
        let found = compiler.to_command().arg(format!("-print-file-name={file}")).output();
        // The compiler answers with the bare name when it does not know the library.
        let exists = found.is_ok_and(|out| Path::new(String::from_utf8_lossy(&out.stdout).trim()).is_absolute());
        if exists {
            println!("cargo:rustc-link-lib=dylib={name}");
        }
    }
}

fn out_dir() -> PathBuf {
    // Cargo sets it for every build script.
    PathBuf::from(env::var_os("OUT_DIR").expect("OUT_DIR is set by cargo"))
}

/// Ends the build with one line that says what to do.
fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    exit(1)
}
