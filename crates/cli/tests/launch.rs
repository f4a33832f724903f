//! Models that are launched by name on a running server: by the verbs, and over the paths of Xinference's API and of Ollama's,
//! with the stand-in of the hubs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(unreachable_pub, dead_code, reason = "a test has no users, and uses its part of a client")]

#[path = "serve/client.rs"]
mod client;
#[path = "../../hub/tests/support/stand_in.rs"]
mod stand_in;
mod support;

use std::process::Output;
use std::time::{Duration, Instant};

use client::{Response, Server};
use serde_json::{Value, json};
use stand_in::{File, Repo, StandIn, Wrong};
use support::{fixture, glimmer, root};
use tempfile::TempDir;

/// The seed's line, but for the program's name.
const SEED: &str = "launch --model-engine llama.cpp --model-name glm-edge-chat --size-in-billions 1_5 --model-format ggufv2 \
                    --quantization Q4_K_M";

/// Hubs with tiny models under published names, and a server whose clients may launch them.
struct World {
    hubs: StandIn,
    home: TempDir,
    server: Server,
}

impl World {
    fn new(flags: &[&str], variables: &[(&str, &str)]) -> World {
        let hubs = StandIn::start().unwrap();
        let demo = std::fs::read(root().join("crates/glimmer/assets/demo.gguf")).unwrap();
        let mut repo = Repo::new(&[("LICENSE", b"as you like")]);
        for name in ["ggml-model-Q4_K_M.gguf", "ggml-model-Q4_K.gguf", "ggml-model-Q8_0.gguf"] {
            repo.files.insert(name.to_owned(), File::new(demo.clone()));
        }
        hubs.publish("zai-org/glm-edge-1.5b-chat-gguf", repo.clone());
        hubs.publish("ZhipuAI/glm-edge-1.5b-chat-gguf", repo);
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
        let (hf, ms, data) = (path("hf"), path("ms"), path("data"));
        let endpoint = hubs.endpoint.clone();
        let mut all = vec![
            ("HF_ENDPOINT", endpoint.as_str()),
            ("MODELSCOPE_ENDPOINT", &endpoint),
            ("HF_HOME", &hf),
            ("MODELSCOPE_CACHE", &ms),
            ("XDG_DATA_HOME", &data),
        ];
        all.extend_from_slice(variables);
        let server = Server::start_with(&[&["--launch", "--ctx", "512"], flags].concat(), &all);
        World { hubs, home, server }
    }

    fn accepting() -> World {
        World::new(&[], &[("GLIMMER_ACCEPT_LICENCE", "1")])
    }

    fn output(&self, line: &str) -> Output {
        let mut command = glimmer();
        command
            .args(line.split_whitespace())
            .env("XINFERENCE_ENDPOINT", format!("http://{}", self.server.address));
        command.output().unwrap()
    }

    /// What a verb prints.
    fn run(&self, line: &str) -> String {
        let output = self.output(line);
        assert!(output.status.success(), "{line}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it fails with.
    fn fail(&self, line: &str) -> String {
        let output = self.output(line);
        assert_eq!(output.status.code(), Some(1), "{line}: {}", said(&output));
        assert!(said(&output).lines().all(|line| line.chars().count() < 300), "{}", said(&output));
        said(&output)
    }

    fn get(&self, path: &str) -> Value {
        let response = self.server.get(path);
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        response.json()
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> Response {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.server.request(method, path, &[], &body)
    }

    /// Why a launch is refused.
    fn refusal(&self, more: Value) -> String {
        let mut body = json!({"model_name": "glm-edge-chat", "model_engine": "llama.cpp"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let response = self.send("POST", "/v1/models", &body);
        assert!((400..500).contains(&response.status), "{}: {}", response.status, response.text());
        let answer = response.json();
        assert_eq!(answer["detail"], answer["error"]["message"]);
        answer["detail"].as_str().unwrap().to_owned()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_seeds_line_launches() {
    let world = World::accepting();
    assert_eq!(world.run(SEED), "glm-edge-chat\n");
    let one = world.get("/v1/models/glm-edge-chat");
    for (field, value) in [
        ("model_type", json!("LLM")),
        ("model_name", json!("glm-edge-chat")),
        ("model_ability", json!(["chat"])),
        ("model_lang", json!(["en", "zh"])),
        ("model_format", json!("ggufv2")),
        ("model_size_in_billions", json!("1_5")),
        ("quantization", json!("Q4_K_M")),
        ("context_length", json!(8192)),
        ("model_engine", json!("llama.cpp")),
        ("replica", json!(1)),
        ("object", json!("model")),
        ("max_model_len", json!(512)),
    ] {
        assert_eq!(one[field], value, "{field}");
    }
    let question = json!({"model": "glm-edge-chat", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 8});
    let answer = world.send("POST", "/v1/chat/completions", &question).json();
    assert!(!answer["choices"][0]["message"]["content"].as_str().unwrap().is_empty(), "{answer}");
    let list = world.run("list --running");
    assert!(list.contains("glm-edge-chat") && list.contains("Q4_K_M") && list.contains("demo"), "{list}");
    assert_eq!(world.get("/v1/models/glm-edge-chat/progress")["progress"], 1.0);
    let events = world.get("/v1/models/glm-edge-chat/events");
    assert!(
        events.as_array().unwrap().iter().any(|event| event["event_content"] == "it is ready"),
        "{events}"
    );
    // Nothing is fetched twice, and a second one has another name.
    world.hubs.seen();
    let other = world.run(&format!("{SEED} --replica 3 -u edge"));
    assert_eq!(other, "edge\n");
    assert!(world.hubs.seen().is_empty());
    assert_eq!(world.get("/v1/models/edge/replicas").as_array().unwrap().len(), 3);
    assert!(world.fail(&format!("{SEED} -u edge")).contains("called edge already"));
    assert!(world.run(SEED).starts_with("glm-edge-chat-"));
    world.run("terminate --model-uid glm-edge-chat");
    assert!(world.fail("terminate --model-uid glm-edge-chat").contains("does not exist"));
    assert_eq!(world.send("POST", "/v1/chat/completions", &question).status, 404);
    let cached = world.run("cached -n glm-edge-chat");
    assert!(cached.contains("glm-edge-chat--1_5B--ggufv2--Q4_K_M"), "{cached}");
    world.run("remove-cache -n glm-edge-chat--1_5B--ggufv2--Q4_K_M --check");
    assert!(world.run("cached").contains("no model's files"));
}

#[test]
fn a_licence_is_accepted_by_whoever_launches() {
    let world = World::new(&[], &[]);
    let error = world.fail(SEED);
    assert!(error.contains("licence") && error.contains("--accept-licence"), "{error}");
    assert_eq!(world.run(&format!("{SEED} --accept-licence")), "glm-edge-chat\n");
}

#[test]
fn a_launch_can_be_watched_and_stopped() {
    let world = World::accepting();
    world.hubs.goes_wrong("store GET", 1000, Wrong::Hang);
    let body = json!({"model_name": "glm-edge-chat", "model_engine": "vLLM", "quantization": "Q8_0", "model_uid": "slow"});
    let launched = world.send("POST", "/v1/models?wait_ready=False", &body);
    assert_eq!(launched.json(), json!({"model_uid": "slow"}), "{}", launched.text());
    let instance = &world.get("/v1/models/instances?model_uid=slow")[0];
    assert_eq!((&instance["status"], &instance["model_name"]), (&json!("LOADING"), &json!("glm-edge-chat")));
    let progress = world.get("/v1/models/slow/progress");
    assert!(progress["progress"].as_f64().unwrap() < 1.0 && progress["stage"] == "downloading", "{progress}");
    assert_eq!(world.server.get("/v1/models/slow").status, 503);
    // A page elsewhere cannot.
    let by_a_page = world.server.request("POST", "/v1/models/slow/cancel", &["Origin: http://elsewhere"], "");
    assert_eq!(by_a_page.status, 415);
    assert_eq!(world.send("POST", "/v1/models/slow/cancel", &Value::Null).json(), Value::Null);
    assert_eq!(world.get("/v1/models/instances?model_uid=slow"), json!([]));
    let deadline = Instant::now() + Duration::from_secs(30);
    while !world.server.log().contains("launch cancelled") {
        assert!(Instant::now() < deadline, "{}", world.server.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(world.send("POST", "/v1/models/slow/cancel", &Value::Null).status, 400);
}

#[test]
fn what_does_not_run_is_refused_by_name() {
    let world = World::accepting();
    for (more, words) in [
        (json!({"model_name": "glm-edge-chad"}), vec!["did you mean glm-edge-chat"]),
        (json!({"model_size_in_billions": 7}), vec!["no size 7", "1_5, 4"]),
        (json!({"model_format": "gptq"}), vec!["does not run in gptq", "ggufv2 1_5", "pytorch"]),
        (json!({"model_format": "zip"}), vec!["zip", "pytorch and ggufv2"]),
        (json!({"quantization": "Q3_X"}), vec!["Q3_X", "Q4_K_M"]),
        (json!({"model_name": "glm-edge-v"}), vec!["no decoder"]),
        (
            json!({"peft_model_config": {"lora_list": [{"lora_name": "a", "local_path": "b"}]}}),
            vec!["lora_list", "no directory"],
        ),
        (json!({"gpu_memory_utilization": 0.5}), vec!["gpu_memory_utilization"]),
        (json!({"model_path": "nowhere"}), vec!["model_path", "nothing is at nowhere"]),
        (json!({"model_uid": "a/b"}), vec!["model_uid"]),
        (json!({"model_uid": "demo"}), vec!["called demo already"]),
    ] {
        let refusal = world.refusal(more.clone());
        assert!(words.iter().all(|word| refusal.contains(word)), "{more}: {refusal}");
    }
    for (line, word) in [
        (format!("{SEED} --lora-modules adapter path"), "lora_list"),
        (format!("{SEED} --gpu_memory_utilization 0.9"), "gpu_memory_utilization"),
        (format!("{SEED} -ev KEY value"), "envs"),
        ("engine -n glm-edge-chat -q Q1".to_owned(), "does not run so"),
    ] {
        let error = world.fail(&line);
        assert!(error.contains(word), "{line}: {error}");
    }
    // Files that are no model are told of when they are opened.
    let broken = world.home.path().join("broken.gguf");
    std::fs::write(&broken, b"GGUF").unwrap();
    let body = json!({"model_name": "broken", "model_engine": "llama.cpp", "model_path": broken});
    let response = world.send("POST", "/v1/models", &body);
    assert_eq!(response.status, 503, "{}", response.text());
    let instance = &world.get("/v1/models/instances?model_uid=broken")[0];
    assert_eq!(instance["status"], "ERROR");
    assert_eq!(world.server.get("/v1/models/broken").json()["error"]["code"], "launch_failed");
}

#[test]
fn models_of_ones_own_are_registered_and_launched() {
    let world = World::accepting();
    let model = json!({
        "version": 2, "model_name": "ours", "context_length": 512, "model_lang": ["en"], "model_ability": ["chat"],
        "model_specs": [{
            "model_format": "ggufv2", "model_size_in_billions": "0_5", "quantizations": ["Q8_0"],
            "model_uri": root().join("crates/glimmer/assets"), "model_file_name_template": "demo.gguf"
        }]
    });
    let file = world.home.path().join("ours.json");
    std::fs::write(&file, model.to_string()).unwrap();
    world.run(&format!("register --file {} --persist", file.display()));
    assert!(world.home.path().join("data/glimmer/models/ours.json").exists());
    assert!(world.fail(&format!("register --file {}", file.display())).contains("taken"));
    let own = world.get("/v1/model_registrations/LLM/ours");
    assert_eq!((&own["is_builtin"], &own["model_specs"][0]["quantization"]), (&json!(false), &json!("Q8_0")));
    let all = world.get("/v1/model_registrations/LLM");
    assert!(all.as_array().unwrap().contains(&json!({"model_name": "ours", "is_builtin": false})));
    assert!(world.run("registrations").contains("glm-edge-chat"));
    let engines = world.run("engine -n ours");
    assert!(engines.contains("llama.cpp") && engines.contains("Q8_0"), "{engines}");
    assert_eq!(world.run("launch -en llama.cpp -n ours"), "ours\n");
    world.run("unregister --model-name ours");
    assert!(!world.home.path().join("data/glimmer/models/ours.json").exists());
    assert!(world.fail("unregister -n ours").contains("no model ours"));
    assert!(world.fail("unregister -n glm-edge-chat").contains("built in"));
}

#[test]
fn encoders_are_launched() {
    let world = World::accepting();
    let path = fixture("text2vec-bert");
    let uid =
        world.run(&format!("launch -n text2vec -t embedding --model-path {} -u vectors", path.display()));
    assert_eq!(uid, "vectors\n");
    let one = world.get("/v1/models/vectors");
    assert_eq!((&one["model_type"], &one["model_ability"]), (&json!("embedding"), &json!(["embed"])));
    let body = json!({"model": "vectors", "input": "你好"});
    let vectors = world.send("POST", "/v1/embeddings", &body).json();
    let width = vectors["data"][0]["embedding"].as_array().unwrap().len();
    assert_eq!(one["dimensions"], width);
    let encoder = json!({
        "model_name": "our-encoder", "dimensions": width, "max_tokens": 32, "language": ["zh"],
        "model_specs": [{"model_format": "pytorch", "model_uri": path, "quantization": "none"}]
    });
    let body = json!({"model": encoder.to_string(), "persist": false});
    assert_eq!(world.send("POST", "/v1/model_registrations/embedding", &body).json(), Value::Null);
    assert!(world.run("registrations -t embedding").contains("our-encoder"));
    assert_eq!(world.run("launch -n our-encoder -t embedding"), "our-encoder\n");
    world.run("terminate --model-uid our-encoder");
    world.run("unregister -t embedding -n our-encoder");
}

#[test]
fn rerankers_are_launched() {
    let world = World::accepting();
    let path = root().join("crates/glimmer/tests/data/pairs/head");
    assert_eq!(
        world.run(&format!("launch -n any -t rerank --model-path {} -u head", path.display())),
        "head\n"
    );
    let one = world.get("/v1/models/head");
    assert_eq!((&one["model_type"], &one["model_ability"]), (&json!("rerank"), &json!(["rerank"])));
    let body = json!({"model": "head", "query": "the cat", "documents": ["a bird", "the moon"]});
    let ranked = world.send("POST", "/v1/rerank", &body).json();
    assert_eq!(ranked["results"].as_array().unwrap().len(), 2, "{ranked}");
    let reranker = json!({"model_name": "our-reranker", "model_specs": [{"model_uri": path}]});
    let body = json!({"model": reranker.to_string(), "persist": true});
    assert_eq!(world.send("POST", "/v1/model_registrations/rerank", &body).json(), Value::Null);
    assert!(world.home.path().join("data/glimmer/models/rerank/our-reranker.json").exists());
    assert!(world.run("registrations -t rerank").contains("our-reranker"));
    assert!(!world.run("registrations -t embedding").contains("our-reranker"));
    assert_eq!(world.run("launch -n our-reranker -t rerank"), "our-reranker\n");
    world.run("unregister -t rerank -n our-reranker");
    // Files without a head score nothing.
    let encoder = fixture("text2vec-bert");
    let said = world.fail(&format!("launch -n any -t rerank --model-path {}", encoder.display()));
    assert!(said.contains("no head"), "{said}");
    let said = world.fail(&format!("launch -n any -t embedding --model-path {}", path.display()));
    assert!(said.contains("makes no vectors"), "{said}");
}

#[test]
fn the_machine_is_a_cluster_of_one() {
    let world = World::accepting();
    let address = world.server.address.to_string();
    assert_eq!(world.get("/v1/cluster/auth"), json!({"auth": false}));
    assert_eq!(world.get("/v1/address"), json!(address));
    assert_eq!(world.get("/v1/supervisor"), json!({"supervisor_ip": address}));
    assert_eq!(world.get("/v1/workers")[0]["models"]["demo"]["model_type"], "LLM");
    let info = world.get("/v1/cluster/info?detailed=true");
    assert_eq!(info[0]["node_type"], "Supervisor");
    assert!(info[1]["mem_total"].as_u64().unwrap() > 0);
    assert!(world.get("/status")["workers"][&address]["status"]["cpu"]["memory_total"].as_u64().unwrap() > 0);
    assert!(world.get("/v1/cluster/version")["version"].is_string());
    assert!(world.get("/v1/models/families")["chat"].as_array().unwrap().contains(&json!("glm-edge-chat")));
    assert!(
        world.get("/v1/models/vllm-supported")["chat"].as_array().unwrap().contains(&json!("glm-edge-chat"))
    );
}

#[test]
fn keys_are_asked_for_where_there_are_any() {
    let keys = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(keys.path(), "secret\n").unwrap();
    let world =
        World::new(&["--api-keys", keys.path().to_str().unwrap()], &[("GLIMMER_ACCEPT_LICENCE", "1")]);
    assert_eq!(world.get("/v1/cluster/auth"), json!({"auth": true}));
    for path in ["/v1/models", "/status", "/v1/address", "/v1/models/families"] {
        assert_eq!(world.server.get(path).status, 401, "{path}");
    }
    assert!(world.fail(SEED).contains("a valid API key is required"));
    assert_eq!(world.run(&format!("{SEED} -ak secret")), "glm-edge-chat\n");
    assert!(world.run("list --running --api-key secret").contains("glm-edge-chat"));
}

#[test]
fn only_who_may_changes_what_is_served() {
    let server = Server::start(&["--ctx", "512"]);
    let body = r#"{"model_name": "glm-edge-chat", "model_engine": "llama.cpp"}"#;
    for (method, path, body) in [
        ("POST", "/v1/models", body),
        ("DELETE", "/v1/models/demo", ""),
        ("POST", "/v1/model_registrations/LLM", r#"{"model": "{}"}"#),
        ("DELETE", "/v1/cache/models?model_version=x", ""),
    ] {
        let response = server.request(method, path, &[], body);
        assert_eq!(response.status, 403, "{method} {path}: {}", response.text());
        assert!(response.json()["detail"].as_str().unwrap().contains("--launch"));
    }
    assert_eq!(server.get("/v1/models/demo").json()["model_ability"], json!(["chat", "generate"]));
    // A name with slashes is a name.
    assert_eq!(server.get("/v1/models/owner/name").status, 404);
}

#[test]
fn memory_in_xinferences_words_is_exact() {
    let line = "cal-model-mem -n glm-edge-chat -s 1_5 -f ggufv2 -q Q4_K_M -c 8192";
    let run = |line: &str| {
        let output = glimmer().args(line.split_whitespace()).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let figures: Value = serde_json::from_str(&run(&format!("{line} --json"))).unwrap();
    let figure = |name: &str| figures[name].as_u64().unwrap();
    // 28 layers, 4 heads of 128, keys and values, 2 bytes.
    assert_eq!(figure("kv_cache_mem"), 28 * 4 * 128 * 2 * 2 * 8192 / (1 << 20));
    let parts = ["model_mem", "kv_cache_mem", "activation_mem", "overhead"].map(figure);
    assert!(parts.iter().sum::<u64>() - figure("total") < 4, "each is rounded up: {figures}");
    let text = run(line);
    for part in ["model_name: glm-edge-1.5b-chat", "model size: 1.5 B", "quant: Q4_K_M", "  kv_cache: 448 MB"]
    {
        assert!(text.contains(part), "{text}");
    }
    let half: Value = serde_json::from_str(&run(&format!("{line} --kv-cache-dtype 32 --json"))).unwrap();
    assert_eq!(half["kv_cache_mem"], 2 * figure("kv_cache_mem"));
    let output = glimmer().args("cal-model-mem -s 1000 -f pytorch -c 8192".split(' ')).output().unwrap();
    assert!(said(&output).contains("no model of 1000B runs here"), "{}", said(&output));
}

/// What Ollama's command line asks, as its release 0.33.0-rc2 does (`cmd/cmd.go`, `api/client.go`), command by command.
#[test]
fn ollamas_command_line_is_answered() {
    let world = World::accepting();
    let file = std::fs::read_to_string(root().join("crates/cli/tests/data/ollama_requests.jsonl")).unwrap();
    for request in file.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let text = |name: &str| request[name].as_str().unwrap();
        if request["method"] == "HEAD" {
            assert_eq!(world.server.head(text("path")), request["status"], "{request}");
            continue;
        }
        let response = world.send(text("method"), text("path"), &request["body"]);
        assert_eq!(response.status, request["status"], "{request} => {}", response.text());
        let lines: Vec<&[u8]> =
            response.body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).collect();
        let parsed = |line: &&[u8]| serde_json::from_slice::<Value>(line).unwrap();
        if response.status >= 400 {
            let error = parsed(&lines[0])["error"].clone();
            assert!(
                error.is_string()
                    && (response.status != 404 || error.as_str().unwrap().contains("not found"))
            );
        }
        if let Some(field) = request["has"].as_str() {
            assert!(!parsed(&lines[0])[field].is_null(), "{request} => {}", response.text());
        }
        if let Some(wanted) = request["last"].as_object() {
            let last = parsed(lines.last().unwrap());
            assert!(
                wanted.iter().all(|(name, value)| last[name] == *value),
                "{request} => {}",
                response.text()
            );
        }
    }
}

#[test]
fn models_are_pulled_and_made_of_others() {
    let world = World::accepting();
    let post = |path: &str, body: Value| world.send("POST", path, &body);
    let refused = |path: &str, body: Value, word: &str| {
        let response = post(path, body);
        assert_eq!(response.status, 400, "{}", response.text());
        let error = response.json()["error"].as_str().unwrap().to_owned();
        assert!(error.contains(word) && error.chars().count() <= 300, "{error}");
    };
    let names = || -> Vec<String> {
        let all = world.get("/api/tags")["models"].as_array().unwrap().clone();
        all.iter().map(|model| model["name"].as_str().unwrap().to_owned()).collect()
    };
    refused("/api/pull", json!({"model": "glm-edge:7b"}), "glm-edge");
    refused("/api/pull", json!({"model": "../x"}), "../x");
    let pulled = post("/api/pull", json!({"model": "glm-edge:1.5b"}));
    let steps: Vec<Value> = pulled.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (&steps[0], steps.last().unwrap()),
        (&json!({"status": "pulling manifest"}), &json!({"status": "success"}))
    );
    for step in steps.iter().filter(|step| step.get("digest").is_some()) {
        assert!(
            step["completed"].as_u64() <= step["total"].as_u64()
                && step["digest"].as_str().unwrap().len() == 71
        );
    }
    // By its id on a hub, as Ollama has it, too.
    let by_id = json!({"model": "hf.co/zai-org/glm-edge-1.5b-chat-gguf:Q8_0", "stream": false});
    assert_eq!(post("/api/pull", by_id).json(), json!({"status": "success"}));
    assert!(names().contains(&"hf.co/zai-org/glm-edge-1.5b-chat-gguf:Q8_0".to_owned()));
    let say = |model: &str, more: Value| {
        let mut body =
            json!({"model": model, "stream": false, "messages": [{"role": "user", "content": "Hello!"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let response = post("/api/chat", body);
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()
    };
    let brief = json!({"model": "brief", "from": "glm-edge:1.5b", "system": "Be brief.", "stream": false,
        "parameters": {"temperature": 0, "num_predict": 5}, "template": "", "files": {}, "license": ["as you like"]});
    assert_eq!(post("/api/create", brief).json(), json!({"status": "success"}));
    let own = say("brief", json!({}));
    let same = json!({"options": {"temperature": 0, "num_predict": 5}, "messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello!"}]});
    let same = say("glm-edge:1.5b", same);
    for field in ["message", "done_reason", "prompt_eval_count", "eval_count"] {
        assert_eq!(own[field], same[field], "{field}");
    }
    // What a request says itself counts.
    assert_eq!(say("brief", json!({"options": {"num_predict": 2}}))["eval_count"], 2);
    let shown = post("/api/show", json!({"model": "brief"})).json();
    assert_eq!((&shown["system"], &shown["license"]), (&json!("Be brief."), &json!("as you like")));
    assert_eq!(shown["details"]["parent_model"], "glm-edge:1.5b");
    assert!(
        shown["parameters"]
            .as_str()
            .unwrap()
            .lines()
            .any(|line| line.starts_with("num_predict") && line.ends_with(" 5"))
    );
    // Its own Modelfile makes it again, on top of itself.
    let again = json!({"name": "again", "modelfile": shown["modelfile"], "from": "brief", "stream": false});
    assert_eq!(post("/api/create", again).json(), json!({"status": "success"}));
    assert_eq!(say("again", json!({}))["message"], own["message"]);
    assert_eq!(post("/api/copy", json!({"source": "again:latest", "destination": "copy:v1"})).status, 200);
    assert_eq!(say("copy:v1", json!({}))["message"], own["message"]);
    for (more, word) in [
        (json!({"template": "{{ .Prompt }}"}), "`template`"),
        (json!({"adapters": {"a.gguf": "sha256:0"}}), "`adapters`"),
        (json!({"files": {"a.gguf": "sha256:0"}}), "`files`"),
        (json!({"quantize": "q4_0"}), "`quantize`"),
        (json!({"parameters": {"temperature": "hot"}}), "parameters.temperature"),
        (json!({"parameters": {"mood": 1}}), "parameters.mood"),
        (json!({"messages": [{"role": "nobody"}]}), "nobody"),
        (json!({"modelfile": "FROM demo\nTEMPLATE x"}), "TEMPLATE"),
        (json!({"model": "demo"}), "demo"),
        (json!({"model": "a b"}), "a b"),
        (json!({"from": ""}), "`from`"),
    ] {
        let mut body = json!({"model": "odd", "from": "demo"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        refused("/api/create", body, word);
    }
    assert_eq!(post("/api/create", json!({"model": "odd", "from": "nobody"})).status, 404);
    assert_eq!(post("/api/copy", json!({"source": "nobody", "destination": "odd"})).status, 404);
    // What others are made of goes after them, and its files with it.
    let delete = |name: &str| world.send("DELETE", "/api/delete", &json!({"model": name}));
    assert_eq!(delete("glm-edge:1.5b").status, 400);
    for name in ["brief", "again", "copy:v1", "glm-edge:1.5b"] {
        let response = delete(name);
        assert_eq!(response.status, 200, "{}", response.text());
    }
    assert_eq!(delete("glm-edge:1.5b").status, 404);
    assert!(!world.run("cached").contains("Q4_K_M"));
    assert_eq!(names(), ["demo:latest", "hf.co/zai-org/glm-edge-1.5b-chat-gguf:Q8_0"]);
}

/// A client that goes away while files come stops them, and another goes on.
#[test]
fn a_pull_that_is_left_goes_on_later() {
    let world = World::accepting();
    world.hubs.pace(100_000);
    let body = json!({"model": "glm-edge:1.5b"}).to_string();
    let stream = world.server.send("POST", "/api/pull", &[], &body);
    std::thread::sleep(Duration::from_millis(500));
    drop(stream);
    world.hubs.pace(0);
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let response = world.send("POST", "/api/pull", &json!({"model": "glm-edge:1.5b", "stream": false}));
        if response.status == 200 {
            break;
        }
        assert!(Instant::now() < deadline, "{}", response.text());
        std::thread::sleep(Duration::from_millis(200));
    }
}
