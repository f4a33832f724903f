//! `glimmer launch`: a model by name, on a running server.

use std::time::Duration;

use anyhow::{Result, bail};
use glimmer_hub::Verb;
use indicatif::ProgressBar;
use serde::Deserialize;
use serde_json::{Map, Number, Value, json};

use crate::WrongUsage;
use crate::args::{ForeignArgs, LaunchArgs};
use crate::interrupt::Interrupt;
use crate::output;
use crate::remote::{Refused, Remote};
use crate::terminal::Terminal;

/// How often the server is asked how far it is.
const TICK: Duration = Duration::from_millis(200);

/// What the server says of a model that is on its way.
#[derive(Deserialize)]
struct Instance {
    status: String,
}

/// Launches a model, and waits until it is ready.
pub(crate) fn run(args: &LaunchArgs, terminal: &Terminal) -> Result<()> {
    let remote = Remote::new(&args.server)?;
    let mut body = body(args)?;
    if let Some(engine) = args.model_engine.as_ref().filter(|engine| !engine.eq_ignore_ascii_case("glimmer"))
    {
        terminal.note(&format!("{engine:.40} stands for Glimmer's own engine here"));
    }
    let interrupt = Interrupt::listen()?;
    let uid = match launch(&remote, &body, &interrupt, terminal) {
        Err(error) if needs_licence(&error) => {
            match terminal.ask(&format!("{}. Accept and launch it?", licence(&error))) {
                Some(true) => {}
                _ => return Err(error),
            }
            body["accept_licence"] = true.into();
            launch(&remote, &body, &interrupt, terminal)?
        }
        result => result?,
    };
    output::print(&format!("{uid}\n"))
}

fn needs_licence(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.code == "licence_not_accepted")
}

/// The licence alone, without how a script accepts it.
fn licence(error: &anyhow::Error) -> String {
    error.to_string().split(';').next().unwrap_or_default().to_owned()
}

/// Launches once; returns the uid.
fn launch(remote: &Remote, body: &Value, interrupt: &Interrupt, terminal: &Terminal) -> Result<String> {
    #[derive(Deserialize)]
    struct Launched {
        model_uid: String,
    }
    let path = ["v1", "models"];
    // How far it is can be asked meanwhile.
    let launched: Launched = remote.ask(Verb::Post, &path, &[("wait_ready", "false")], Some(body))?;
    let uid = launched.model_uid;
    let bar = terminal.steps_bar("launching", 1000);
    let ready = wait(remote, &uid, &bar, interrupt);
    bar.finish_and_clear();
    ready.map(|()| uid)
}

/// Waits until the model is ready, or is told why it will not be.
fn wait(remote: &Remote, uid: &str, bar: &ProgressBar, interrupt: &Interrupt) -> Result<()> {
    loop {
        if interrupt.check().is_err() {
            let _: Value = remote.ask(Verb::Post, &["v1", "models", uid, "cancel"], &[], None)?;
            bail!("interrupted: the launch of {uid} is cancelled");
        }
        let instances: Vec<Instance> = remote.get(&["v1", "models", "instances"], &[("model_uid", uid)])?;
        match instances.first().map(|instance| instance.status.as_str()) {
            Some("READY") => return Ok(()),
            Some("ERROR") => {
                let _: Value = remote.get(&["v1", "models", uid], &[])?;
                bail!("{uid} could not be launched");
            }
            Some(_) => {}
            None => bail!("the launch of {uid} was cancelled"),
        }
        let progress: Value = remote.get(&["v1", "models", uid, "progress"], &[])?;
        let part = progress["progress"].as_f64().unwrap_or(0.0);
        bar.set_position(((part * 1000.0) as u64).max(bar.position()));
        std::thread::sleep(TICK);
    }
}

/// What the server is told: what was said, and of the engines' options all.
fn body(args: &LaunchArgs) -> Result<Value> {
    let n_gpu = match args.n_gpu.to_ascii_lowercase().as_str() {
        "auto" => json!("auto"),
        "none" => json!(0),
        number => match number.parse::<u32>() {
            Ok(number) => json!(number),
            Err(_) => bail!(WrongUsage(format!("--n-gpu {number:.40}: auto, none or a number"))),
        },
    };
    let mut body = json!({
        "model_name": args.model_name,
        "model_type": args.model_type,
        "model_engine": args.model_engine,
        "model_uid": args.model_uid,
        "model_size_in_billions": args.size_in_billions,
        "model_format": args.model_format,
        "quantization": args.quantization,
        "replica": args.replica,
        "n_worker": args.n_worker,
        "n_gpu": n_gpu,
        "model_path": args.model_path,
        "download_hub": args.download_hub,
        "accept_licence": args.accept_licence,
    });
    foreign(&mut body, &args.foreign);
    for option in &args.foreign.engine_option {
        let Some((key, value)) = option.split_once('=') else {
            bail!(WrongUsage(format!("--engine-option {option:.60}: KEY=VALUE is expected")));
        };
        body[key] = typed(value);
    }
    Ok(body)
}

/// What means nothing here is told all the same: the server says so.
fn foreign(body: &mut Value, args: &ForeignArgs) {
    let adapters: Vec<Value> = args
        .lora_modules
        .chunks_exact(2)
        .map(|pair| json!({"lora_name": pair[0], "local_path": pair[1]}))
        .collect();
    let (load, fuse) = (pairs(&args.image_lora_load_kwargs), pairs(&args.image_lora_fuse_kwargs));
    if !adapters.is_empty() || !load.is_empty() || !fuse.is_empty() {
        body["peft_model_config"] = json!({
            "lora_list": adapters,
            "image_lora_load_kwargs": load,
            "image_lora_fuse_kwargs": fuse,
        });
    }
    for (name, map) in [("quantization_config", &args.quantization_config), ("envs", &args.env)] {
        if !map.is_empty() {
            body[name] = pairs(map).into();
        }
    }
    body["worker_ip"] = args.worker_ip.clone().into();
    body["gpu_idx"] = args.gpu_idx.clone().into();
    body["virtual_env_packages"] = args.virtual_env_package.clone().into();
    body["virtual_env_find_links"] = args.virtual_env_find_link.clone().into();
    if args.enable_thinking {
        body["enable_thinking"] = true.into();
    }
    if args.enable_virtual_env || args.disable_virtual_env {
        body["enable_virtual_env"] = args.enable_virtual_env.into();
    }
}

fn pairs(words: &[String]) -> Map<String, Value> {
    words.chunks_exact(2).map(|pair| (pair[0].clone(), typed(&pair[1]))).collect()
}

/// A value as Xinference's command line reads it.
fn typed(text: &str) -> Value {
    let number = || text.parse::<i64>().map(Number::from).ok();
    let fraction = || text.parse::<f64>().ok().and_then(Number::from_f64);
    match text {
        "None" => Value::Null,
        "True" | "true" => true.into(),
        "False" | "false" => false.into(),
        _ => match number().or_else(fraction) {
            Some(number) => number.into(),
            None if text.starts_with(['{', '[']) => {
                serde_json::from_str(text).unwrap_or_else(|_| text.into())
            }
            None => text.into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_they_look_like() {
        for (text, value) in [
            ("None", Value::Null),
            ("True", json!(true)),
            ("42", json!(42)),
            ("0.5", json!(0.5)),
            ("[1, 2]", json!([1, 2])),
            ("{broken", json!("{broken")),
            ("1_5", json!("1_5")),
            ("nan", json!("nan")),
        ] {
            assert_eq!(typed(text), value, "{text}");
        }
    }
}
