//! `cargo xtask sandbox up` and `down`.

use std::path::{Path, PathBuf};

use ops_tests::parts;
use ops_tests::sandbox::{self, Binaries, Description, Options, Sandbox};

use crate::{Failure, build};

/// Builds what is missing, starts a sandbox that outlives this chore, and says how to use it.
pub(crate) fn up(arguments: &[&str]) -> Result<(), Failure> {
    let wanted = Wanted::parse(arguments)?;
    parts::ensure_all(&parts::to_stderr)?;
    let binaries = match &wanted.binaries {
        Some(folder) => folder.clone(),
        None => build::programs()?,
    };
    let options = Options {
        dir: Some(wanted.dir),
        binaries: Some(Binaries::in_folder(&binaries)),
        with_agent: wanted.with_agent,
        detached: true,
        ..Options::default()
    };
    let sandbox = Sandbox::up(options)?;
    if wanted.json {
        println!("{}", sandbox.description().to_json()?);
    } else {
        print!("{}", for_people(sandbox.description()));
    }
    Ok(())
}

/// Ends a sandbox; one that is down already is no failure.
pub(crate) fn down(arguments: &[&str]) -> Result<(), Failure> {
    let wanted = Wanted::parse(arguments)?;
    Ok(sandbox::down(&wanted.dir)?)
}

#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    dir: PathBuf,
    json: bool,
    with_agent: bool,
    binaries: Option<PathBuf>,
}

impl Wanted {
    fn parse(arguments: &[&str]) -> Result<Self, Failure> {
        let mut wanted = Self { dir: PathBuf::new(), json: false, with_agent: true, binaries: None };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().ok_or_else(|| format!("{argument} needs a folder"));
            match *argument {
                "--dir" => wanted.dir = value()?.into(),
                "--build" => wanted.binaries = Some(value()?.into()),
                "--json" => wanted.json = true,
                "--without-agent" => wanted.with_agent = false,
                other => return Err(format!("sandbox does not know {other}").into()),
            }
        }
        if wanted.dir == Path::new("") {
            return Err("sandbox needs --dir DIR".into());
        }
        Ok(wanted)
    }
}

fn for_people(sandbox: &Description) -> String {
    let exports: String =
        sandbox.env.iter().map(|(name, value)| format!("  export {name}='{value}'\n")).collect();
    format!(
        "backend   {}\nfrontend  {}\nfaults    {}\nmongodb   {} ({})\n\n{exports}\
         \x20 {} -c {} status\n  cargo xtask sandbox down --dir {}\n",
        sandbox.platform.backend_url,
        sandbox.platform.frontend_url,
        sandbox.platform.admin_url,
        sandbox.mongodb.database,
        sandbox.mongodb.kind,
        sandbox.supervisor.supervisorctl.display(),
        sandbox.supervisor.config.display(),
        sandbox.dir.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read() {
        let wanted = Wanted::parse(&["--dir", "/x", "--json"]).unwrap();
        assert_eq!(wanted, Wanted { dir: "/x".into(), json: true, with_agent: true, binaries: None });
        for wrong in [&[][..], &["--dir"], &["--dir", "/x", "--colour"]] {
            assert!(Wanted::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
