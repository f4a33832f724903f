//! The tests' stand-in of both hubs as a program: `stand_in OWNER/NAME=FOLDER...` publishes the files of folders and prints its
//! address. It ends with its standard input.
#![allow(clippy::print_stdout, reason = "it is a program")]

#[path = "../tests/support/stand_in.rs"]
mod stand_in;

use std::error::Error;
use std::io::{Write, copy, sink, stdin, stdout};
use std::path::Path;

use stand_in::{File, Repo, StandIn};

fn main() -> Result<(), Box<dyn Error>> {
    let server = StandIn::start()?;
    for word in std::env::args().skip(1) {
        let (id, folder) = word.split_once('=').ok_or("OWNER/NAME=FOLDER is expected")?;
        let mut repo = Repo::new(&[]);
        add(&mut repo, Path::new(folder), "")?;
        server.publish(id, repo);
    }
    println!("{}", server.endpoint);
    stdout().flush()?;
    copy(&mut stdin(), &mut sink())?;
    Ok(())
}

fn add(repo: &mut Repo, folder: &Path, before: &str) -> Result<(), Box<dyn Error>> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = format!("{before}{}", path.file_name().unwrap_or_default().to_string_lossy());
        if path.is_dir() {
            add(repo, &path, &format!("{name}/"))?;
        } else {
            repo.files.insert(name, File::new(std::fs::read(&path)?));
        }
    }
    Ok(())
}
