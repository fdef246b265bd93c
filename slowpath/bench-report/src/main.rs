//! `make bench`: runs the benchmarks of a `carom` binary one after the other, several times round so that whatever the
//! machine does meanwhile meets all of them, and writes a report of the medians as Markdown and as HTML, with plots.
//!
//! `bench-report CAROM DIRECTORY [--quick] [--criterion DIRECTORY]`

mod cases;
mod chart;
mod machine;
mod micro;
mod page;
mod results;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use results::Results;

/// What the command line says.
struct Arguments {
    carom: PathBuf,
    directory: PathBuf,
    quick: bool,
    /// Where criterion left its results.
    criterion: Option<PathBuf>,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut places, mut quick, mut criterion) = (Vec::new(), false, None);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--quick" => quick = true,
                "--criterion" => criterion = Some(words.next().ok_or("--criterion needs a directory")?.into()),
                word if word.starts_with('-') => return Err(format!("there is no option {word}")),
                word => places.push(PathBuf::from(word)),
            }
        }
        match <[PathBuf; 2]>::try_from(places) {
            Ok([carom, directory]) => Ok(Arguments { carom, directory, quick, criterion }),
            Err(_) => Err("usage: bench-report CAROM DIRECTORY [--quick] [--criterion DIRECTORY]".to_owned()),
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let directory = &arguments.directory;
    fs::create_dir_all(directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    let cases = cases::all(arguments.quick);
    let results = Results::measure(&arguments.carom, cases)?;
    let micro = arguments.criterion.as_deref().map(micro::read).transpose()?.unwrap_or_default();
    write(directory, "results.json", &results.json())?;
    let page = page::Page::new(&results, &micro)?;
    for (name, svg) in page.plots() {
        write(directory, &format!("{name}.svg"), svg)?;
    }
    write(directory, "report.md", &page.markdown())?;
    write(directory, "report.html", &page.html())
}

fn write(directory: &Path, name: &str, text: &str) -> Result<(), String> {
    let path = directory.join(name);
    fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))
}

fn main() -> ExitCode {
    match Arguments::parse(env::args().skip(1)).and_then(|arguments| {
        run(&arguments)?;
        println!("{}", arguments.directory.join("report.html").display());
        Ok(())
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-report: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Arguments, String> {
        Arguments::parse(words.iter().map(|word| (*word).to_owned()))
    }

    #[test]
    fn the_command_line() {
        let arguments = parse(&["a/carom", "out", "--criterion", "target/criterion", "--quick"]).unwrap();
        assert_eq!((arguments.carom, arguments.directory), ("a/carom".into(), "out".into()));
        assert_eq!((arguments.quick, arguments.criterion), (true, Some("target/criterion".into())));
        for wrong in [&["carom"][..], &["a", "b", "c"], &["a", "b", "--fast"], &["a", "b", "--criterion"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
