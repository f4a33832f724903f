//! One question, one answer: `cargo run --release --example answer -- MODEL 'What can you do?'`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "examples print")]

use glimmer::{Conversation, Limits, Model, OpenOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().unwrap_or("demo".to_owned());
    let question = arguments.next().unwrap_or("What can you do?".to_owned());

    let model = Model::open(model.as_str(), &OpenOptions::default(), &mut |_| {})?;
    let engine = model.start(&Limits::default())?;
    let answer = engine.chat(&Conversation::of_user(question))?.complete()?;
    println!("{}", answer.reply.text);
    eprintln!("{:?}, {} tokens in {:?}", answer.finish, answer.usage.completion, answer.timings.total);
    Ok(())
}
