//! Answers to several questions at once, as they come: `cargo run --release --example stream -- MODEL`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "examples print")]

use glimmer::{Conversation, Limits, Model, OpenOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = std::env::args().nth(1).unwrap_or("demo".to_owned());
    let model = Model::open(model.as_str(), &OpenOptions::default(), &mut |_| {})?;
    let engine = model.start(&Limits { running: 2, waiting: 2, ..Limits::default() })?;

    let questions = ["3 + 4?", "What is the capital of France?"];
    std::thread::scope(|scope| {
        for question in questions {
            let engine = &engine;
            scope.spawn(move || -> Result<(), glimmer::Error> {
                for delta in engine.chat(&Conversation::of_user(question))? {
                    println!("{question:32} {:?}", delta?.text());
                }
                Ok(())
            });
        }
    });
    Ok(())
}
