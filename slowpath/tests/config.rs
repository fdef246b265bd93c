//! The config file: what is accepted, what is refused and in which words.

use std::path::Path;

use carom::config;

#[test]
fn examples_pass() {
    let config = config::load(Path::new("../examples/carom.toml")).unwrap();
    assert_eq!(config.warnings().count(), 0);
    let plan = config::Compiler::new().compile(&config, &[Default::default()]).unwrap();
    assert_eq!(plan.servers().count(), 2);
    assert!(config::schema().contains("additionalProperties"));
}
