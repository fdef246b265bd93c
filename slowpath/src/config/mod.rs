//! The config file: read, checked, and compiled to the workers' [plan](fullnat::plan).
//!
//! - [`load`] (or [`parse`] for a text at hand) gives a [`Config`] that passed every check, or [`Refused`], which prints one
//!   line per problem: file, line, column, key, what is wrong and the mend. [`Config`] derefs to [`types::File`], what the
//!   operator wrote with defaults filled in; [`Config::workers`], [`Config::devices`], [`Config::switch`] and
//!   [`Config::routes`] are worked out from it.
//! - [`Compiler`] lives as long as the daemon. [`Compiler::compile`] makes the plan of the next generation; services and
//!   servers keep their ids and shared counters, removed servers with sessions their slot.
//! - [`Config::check_reload`] refuses what cannot change without a restart. A reload is: `load`, `check_reload`, `compile`.
//! - [`Config::warnings`] are about the config, [`Config::machine_warnings`] about the machine it is checked on.
//! - [`check_command`] is `carom check`; [`schema`] and [`reference_markdown`] describe the file.
//! - [`softnic`] is all of this for the file of `carom softnic`, a switch in a process of its own.

mod bounds;
pub mod compile;
mod decode;
pub mod device;
mod machine;
mod path;
mod problem;
mod reference;
mod reload;
pub mod short;
pub mod softnic;
pub mod switch;
pub mod target;
pub mod timeouts;
pub mod types;
mod validate;
pub mod value;

use std::io::{self, Write};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use fullnat::route::Routes;
use serde::de::DeserializeOwned;
use toml::de::DeTable;

pub use compile::{CompileError, Compiler};
pub use device::{Device, EalDevice, NamedDevice};
pub use problem::{Problem, Refused};
pub use reference::{reference_markdown, schema, softnic_reference_markdown, softnic_schema};
pub use softnic::{SoftnicConfig, load_softnic, parse_softnic};
pub use switch::{Place, Switch, SwitchPort};
pub use target::TargetCode;

use decode::DecodeError;
use path::{KeyPath, Places};
use types::File;

/// Exit code of every command for a config that was refused.
pub const EXIT_REFUSED: u8 = 2;

/// Larger files are refused unread: 64 MiB, about half a million servers.
const MAX_FILE: u64 = 64 << 20;

/// A config that passed every check.
#[derive(Clone, Debug)]
pub struct Config {
    file: File,
    path: PathBuf,
    source: Source,
    resolved: validate::Resolved,
    warnings: Vec<Problem>,
}

/// A text and the places of its keys.
#[derive(Clone, Debug)]
struct Source {
    text: String,
    places: Places,
}

impl Deref for Config {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl Config {
    /// The file it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        match self.file.workers.count {
            Some(count) => usize::from(count),
            None => self.file.workers.cpus.len().max(1),
        }
    }

    /// The devices that are opened, in order: one for each interface, or with a switch outside the link to it alone.
    pub fn devices(&self) -> Vec<NamedDevice> {
        let queues = self.queues();
        if let Some(Place::Outside(link)) = self.switch().map(|switch| &switch.place) {
            // The tag comes on top, as VLAN tags do.
            let mtu = self.interface.iter().map(|interface| interface.mtu).max().unwrap_or(0);
            return vec![NamedDevice { name: switch::LINK.into(), eal: link.eal(0, queues, mtu), mtu }];
        }
        let named = |(i, interface): (usize, &types::Interface)| {
            let eal = interface.device.as_ref()?.eal(i, queues, interface.mtu);
            Some(NamedDevice { name: interface.name.clone(), eal, mtu: interface.mtu })
        };
        self.interface.iter().enumerate().filter_map(named).collect()
    }

    /// Queues of each device: one for each worker, or for the one thread of a switch inside.
    pub fn queues(&self) -> usize {
        match self.switch().map(|switch| &switch.place) {
            Some(Place::Inside { .. }) => 1,
            Some(Place::Outside(_)) | None => self.workers(),
        }
    }

    /// The switch that the interfaces are ports of; none when they are devices of this machine.
    pub fn switch(&self) -> Option<&Switch> {
        self.resolved.switch.as_ref()
    }

    /// The routes: the interfaces' own prefixes, static ones, defaults.
    pub fn routes(&self) -> &Routes {
        &self.resolved.routes
    }

    /// Index of the pool that service number `service` of the file uses.
    pub fn pool_of(&self, service: usize) -> usize {
        self.resolved.pools[service]
    }

    /// What is allowed but probably not meant, a line each.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        self.warnings.iter().map(|problem| self.warning(problem))
    }

    /// A warning as a line.
    fn warning(&self, problem: &Problem) -> String {
        warning_line(problem, &self.path)
    }
}

/// A warning about the file at `path` as a line.
fn warning_line(problem: &Problem, path: &Path) -> String {
    let mut line = String::new();
    // Writing to a String never fails.
    let _ = problem.write(&mut line, path, "warning: ");
    line
}

impl Source {
    /// The problem at `path`, placed at `offset` or at the value itself.
    fn problem(&self, path: &KeyPath, offset: Option<usize>, message: String) -> Problem {
        let offset = offset.unwrap_or_else(|| self.places.span(path));
        Problem { at: Some(self.places.line(&self.text, offset)), key: self.places.name(path), message }
    }
}

/// Reads and checks a config file.
pub fn load(path: &Path) -> Result<Config, Refused> {
    parse(&read(path).map_err(|message| refused_as_a_whole(path, message))?, path)
}

/// A refusal that is about no key.
fn refused_as_a_whole(path: &Path, message: String) -> Refused {
    Refused { file: path.to_owned(), problems: vec![Problem { at: None, key: String::new(), message }] }
}

/// The text of a config file, or why there is none.
fn read(path: &Path) -> Result<String, String> {
    let unreadable = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => "no such file; name the config with -c FILE".to_owned(),
        std::io::ErrorKind::PermissionDenied => "may not be read by this user".to_owned(),
        _ => format!("cannot be read: {e}"),
    };
    let meta = std::fs::metadata(path).map_err(unreadable)?;
    if meta.is_dir() {
        return Err("is a directory, not a file".into());
    }
    if meta.len() > MAX_FILE {
        return Err(format!("is larger than {} MiB", MAX_FILE >> 20));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|e| {
        let line = e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|&&b| b == b'\n').count() + 1;
        format!("line {line} is not UTF-8 text")
    })
}

/// Checks the text of a config; `path` is what messages call it.
pub fn parse(text: &str, path: &Path) -> Result<Config, Refused> {
    let (file, source) = document::<File>(text, path)?;
    let (resolved, problems, mut warnings) = validate::validate(&file, &source);
    Refused::unless_empty(path, problems)?;
    warnings.sort_by_key(|p| p.at);
    Ok(Config { file, path: path.to_owned(), source, resolved, warnings })
}

/// Reads a text as a file of this type, and where its keys are.
fn document<T: DeserializeOwned>(text: &str, path: &Path) -> Result<(T, Source), Refused> {
    let document = DeTable::parse(text).map_err(|error| syntax(text, path, &error))?;
    let source = Source { text: text.to_owned(), places: Places::of(text, document.get_ref()) };
    let decoded: Result<T, DecodeError> = T::deserialize(decode::Table(document.get_ref()));
    match decoded {
        Ok(file) => Ok((file, source)),
        Err(error) => {
            let offset = error.span.map(|span| span.start);
            Err(Refused { file: path.to_owned(), problems: vec![source.problem(&error.path, offset, error.message)] })
        }
    }
}

/// The first error of a text that is not TOML.
fn syntax(text: &str, path: &Path, error: &toml::de::Error) -> Refused {
    let offset = error.span().map_or(0, |span| span.start.min(text.len()));
    let at = Places::of_text(text).line(text, offset);
    let message = error.message().lines().map(str::trim).collect::<Vec<_>>().join(", ");
    // There is no tree to name the key by, but most lines begin with it.
    let (key, value) = text.lines().nth(at.0 - 1).and_then(|line| line.split_once('=')).unwrap_or_default();
    let (key, value) = (key.trim(), value.trim());
    // Addresses and names without quotes are what people forget; TOML takes them for numbers, dates or nothing.
    let mend = if value.starts_with(|c: char| c.is_ascii_alphanumeric() || c == ':') {
        "; text must be in quotes"
    } else {
        ""
    };
    let bare = key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    let key = if bare { key.to_owned() } else { String::new() };
    let problem = Problem { at: Some(at), key, message: format!("not TOML: {message}{mend}") };
    Refused { file: path.to_owned(), problems: vec![problem] }
}

/// `carom check`: prints one line per problem to standard error and returns exit code 2, or says that all is well.
pub fn check_command(path: &Path) -> ExitCode {
    let counted = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    told(path, load(path), |config| {
        let servers: usize = config.service.iter().map(|s| s.servers.len()).sum();
        let words = format!("{}, {}", counted(config.service.len(), "service"), counted(servers, "server"));
        (config.warnings().chain(config.machine_warnings()).collect(), words)
    })
}

/// `carom check --softnic`: the same for a file of `carom softnic`.
pub fn check_softnic_command(path: &Path) -> ExitCode {
    told(path, load_softnic(path), |config| {
        let words = format!("{} port{}", config.port.len(), if config.port.len() == 1 { "" } else { "s" });
        (config.warnings().chain(config.machine_warnings()).collect(), words)
    })
}

/// Prints what is wrong, or the warnings and a few words on what there is.
fn told<T>(path: &Path, loaded: Result<T, Refused>, tell: impl FnOnce(&T) -> (Vec<String>, String)) -> ExitCode {
    match loaded {
        Ok(config) => {
            let (warnings, words) = tell(&config);
            // When nobody reads the words, the exit code still tells.
            for line in warnings {
                let _ = writeln!(io::stderr(), "{line}");
            }
            let _ = writeln!(io::stdout(), "{}: ok: {words}", path.display());
            ExitCode::SUCCESS
        }
        Err(refused) => {
            let _ = writeln!(io::stderr(), "{refused}");
            ExitCode::from(EXIT_REFUSED)
        }
    }
}
