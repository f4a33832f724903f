"""xinference-client, unchanged, against `glimmer local`: each of the six specs of Xinference's page of glm-edge-chat in
each of its quantizations, tiny models under the published names on the stand-in of the hubs; the shell lines of that page
with the program's name replaced; registrations, encoders, errors, and keys.

Usage: launch_client.py GLIMMER STAND_IN ROOT
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from xinference_client import RESTfulClient as Client

glimmer, stand_in, root = (pathlib.Path(word).resolve() for word in sys.argv[1:])
place = pathlib.Path(tempfile.mkdtemp(prefix="glimmer-xinference-"))

GGUFS = "Q4_0 Q4_1 Q4_K Q4_K_M Q4_K_S Q5_0 Q5_1 Q5_K Q5_K_M Q5_K_S Q6_K Q8_0".split()
# The page's specs: engine, size, format, quantizations.
SPECS = [
    ("transformers", "1_5", "pytorch", ["none", "4-bit", "8-bit"]),
    ("transformers", 4, "pytorch", ["none", "4-bit", "8-bit"]),
    ("llama.cpp", 1.5, "ggufv2", GGUFS),
    ("llama.cpp", "1_5", "ggufv2", ["F16"]),
    ("llama.cpp", 4, "ggufv2", GGUFS),
    ("llama.cpp", "4", "ggufv2", ["F16"]),
]
QUESTION = [{"role": "user", "content": "Hello! Who are you?"}]
SHORT = {"max_tokens": 24, "temperature": 0}


def convert(out, kind):
    command = [glimmer, "--quiet", "convert", "demo", out, "--type", kind]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def publish():
    """The demo model in the published layouts, under the published names."""
    ggufs, folder = place / "ggufs", place / "folder"
    ggufs.mkdir()
    for kind in GGUFS:
        convert(ggufs / f"ggml-model-{kind}.gguf", kind)
    half = place / "half.gguf"
    convert(half, "F16")
    convert(folder, "F16")
    for size in ["1.5", "4"]:
        of_size = place / f"ggufs-{size}"
        shutil.copytree(ggufs, of_size)
        shutil.copy(half, of_size / f"glm-edge-{size}B-chat-F16.gguf")
    for one in [place / "ggufs-1.5", place / "ggufs-4", folder]:
        (one / "LICENSE").write_text("as you like\n")
    words = []
    for owner in ["zai-org", "ZhipuAI"]:
        for size in ["1.5", "4"]:
            words.append(f"{owner}/glm-edge-{size}b-chat={folder}")
            words.append(f"{owner}/glm-edge-{size}b-chat-gguf={place}/ggufs-{size}")
    server = subprocess.Popen([stand_in, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return server, server.stdout.readline().strip()


def serve(hubs, *flags):
    """A server and its address."""
    environment = {
        **os.environ,
        "GLIMMER_ACCEPT_LICENCE": "1",
        "HF_ENDPOINT": hubs,
        "MODELSCOPE_ENDPOINT": hubs,
        "HF_HOME": str(place / "hf"),
        "MODELSCOPE_CACHE": str(place / "ms"),
        "XDG_DATA_HOME": str(place / "data"),
    }
    log = place / "server.log"
    command = [glimmer, "local", "--port", "0", "--ctx", "512", *flags]
    server = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    for line in server.stderr:
        if " at http://" in line:
            url = line.split(" at ")[1].split(";")[0]
            break
    else:
        raise SystemExit("the server does not start")
    # What it writes afterwards goes to a file: a full pipe would stop it.
    subprocess.Popen(["cat"], stdin=server.stderr, stdout=open(log, "w"))
    return server, url


def refused(call, *words):
    """A call that must fail with these words in its message."""
    try:
        call()
    except RuntimeError as error:
        assert all(word in str(error) for word in words), error
    else:
        raise AssertionError(f"not refused: {words}")


def chats(model):
    """Whether a model answers, whole and as a stream in the same words."""
    whole = model.chat(QUESTION, generate_config=dict(SHORT))
    text = whole["choices"][0]["message"]["content"]
    chunks = model.chat(QUESTION, generate_config={**SHORT, "stream": True})
    parts = [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]]
    assert text and "".join(parts) == text, (text, parts)
    return text


def launch_all(client):
    demo = f"{root}/crates/glimmer/assets/demo.gguf"
    assert client.launch_model("demo", model_engine="llama.cpp", model_path=demo) == "demo"
    expected = chats(client.get_model("demo"))
    launched = 0
    for engine, size, kind, quantizations in SPECS:
        for quantization in quantizations:
            uid = f"edge-{size}-{quantization}"
            given = client.launch_model(
                model_name="glm-edge-chat",
                model_engine=engine,
                model_uid=uid,
                model_size_in_billions=size,
                model_format=kind,
                quantization=quantization,
            )
            assert given == uid
            described = client.describe_model(uid)
            wanted = {
                "model_type": "LLM",
                "model_name": "glm-edge-chat",
                "model_ability": ["chat"],
                "model_lang": ["en", "zh"],
                "context_length": 8192,
                "model_format": kind,
                "quantization": quantization,
                "model_size_in_billions": 4 if str(size) == "4" else "1_5",
                "replica": 1,
            }
            assert {name: described[name] for name in wanted} == wanted, described
            assert client.list_models()[uid]["quantization"] == quantization
            model = client.get_model(uid)
            assert type(model).__name__ == "RESTfulChatModelHandle"
            text = chats(model)
            if quantization in ("none", "F16", "Q8_0"):
                assert text == expected, (uid, text)
            client.terminate_model(uid)
            assert uid not in client.list_models()
            launched += 1
    return launched


def look_around(client):
    assert client.list_models()["demo"]["model_type"] == "LLM"
    engines = client.query_engine_by_model_name("glm-edge-chat")
    assert sorted(engines) == ["SGLang", "Transformers", "llama.cpp", "vLLM"], engines
    quantizations = [one["quantizations"] for one in engines["llama.cpp"] if one["model_size_in_billions"] == 4]
    assert sorted(quantizations[0]) == sorted([*GGUFS, "F16"])
    assert "glm-edge-chat" in client.vllm_models()["chat"]
    address = client._get_supervisor_internal_address()
    assert client.get_supervisor_info() == {"supervisor_ip": address}
    assert client.get_workers_info()[0]["work-ip"] == address
    cached = client.list_cached_models("glm-edge-chat")
    assert {"Q4_K_M", "F16", "none"} <= {one["quantization"] for one in cached}, cached
    version = next(one["model_version"] for one in cached if one["quantization"] == "Q4_0")
    assert client.list_deletable_models(version)["paths"]
    assert client.confirm_and_remove_model(version) is True
    assert client.list_deletable_models(version)["paths"] == []


def launch_and_watch(client):
    uid = client.launch_model("glm-edge-chat", model_engine="vLLM", quantization="Q8_0", wait_ready=False, replica=2)
    assert uid == "glm-edge-chat"
    while client.get_instance_info("glm-edge-chat", uid)[0]["status"] == "LOADING":
        assert 0 <= client.get_launch_model_progress(uid)["progress"] <= 1
    assert client.get_launch_model_progress(uid)["progress"] == 1
    assert client.describe_model(uid)["replica"] == 2
    refused(lambda: client.cancel_launch_model(uid), "not being launched")
    refused(lambda: client.add_model_replica(uid), "replica")
    # Without a uid a second one is called something else.
    other = client.launch_model("glm-edge-chat", model_engine="sglang", quantization="Q8_0", max_model_len=256)
    assert other != uid and client.list_models()[other]["max_model_len"] == 256
    for one in [uid, other]:
        client.terminate_model(one)


def errors(client):
    launch = client.launch_model
    edge = {"model_name": "glm-edge-chat", "model_engine": "llama.cpp"}
    for fields, words in [
        ({"model_name": "glm-edge-chad"}, ["did you mean glm-edge-chat"]),
        ({"model_size_in_billions": 7}, ["no size 7"]),
        ({"model_format": "awq"}, ["does not run in awq", "ggufv2"]),
        ({"quantization": "Q9"}, ["Q9"]),
        ({"model_engine": "onnx"}, ["model_engine"]),
        ({"peft_model_config": {"lora_list": [{"lora_name": "a", "local_path": "b"}]}}, ["lora_list"]),
        ({"envs": {"A": "b"}}, ["envs"]),
        ({"gpu_memory_utilization": 0.9}, ["gpu_memory_utilization"]),
    ]:
        refused(lambda: launch(**{**edge, **fields}), *words)
    refused(lambda: client.get_model("nobody"), "nobody")
    refused(lambda: client.describe_model("nobody"), "nobody")
    refused(lambda: client.terminate_model("nobody"), "nobody")
    model = client.get_model("demo")
    refused(lambda: model.chat([{"role": "nobody", "content": "?"}]), "nobody")
    refused(lambda: model.chat(QUESTION, generate_config={"mirostat": 1}), "mirostat")


def own_models(client):
    model = {
        "version": 2,
        "model_name": "ours",
        "context_length": 512,
        "model_lang": ["en"],
        "model_ability": ["chat"],
        "model_specs": [
            {
                "model_format": "ggufv2",
                "model_size_in_billions": "0_5",
                "quantizations": ["Q4_0", "Q8_0"],
                "model_uri": f"file://{place}/ggufs",
                "model_file_name_template": "ggml-model-{quantization}.gguf",
            }
        ],
    }
    client.register_model(model_type="LLM", model=json.dumps(model), persist=False)
    assert {"model_name": "ours", "is_builtin": False} in client.list_model_registrations("LLM")
    assert client.get_model_registration("LLM", "ours")["model_specs"][0]["quantization"] == "Q4_0"
    uid = client.launch_model("ours", model_engine="llama.cpp", quantization="Q8_0")
    assert chats(client.get_model(uid))
    client.terminate_model(uid)
    client.unregister_model("LLM", "ours")
    refused(lambda: client.launch_model("ours", model_engine="llama.cpp"), "ours")
    uid = client.launch_model("text2vec", model_type="embedding", model_path=str(root / "fixtures/text2vec-bert"))
    vectors = client.get_model(uid).create_embedding(["你好", "hello"])
    width = client.describe_model(uid)["dimensions"]
    assert [len(one["embedding"]) for one in vectors["data"]] == [width, width]
    client.terminate_model(uid)
    head = root / "crates/glimmer/tests/data/pairs/head"
    model = {"model_name": "our-reranker", "language": ["en"], "model_specs": [{"model_format": "pytorch", "model_uri": str(head)}]}
    client.register_model(model_type="rerank", model=json.dumps(model), persist=False)
    assert {"model_name": "our-reranker", "is_builtin": False} in client.list_model_registrations("rerank")
    uid = client.launch_model("our-reranker", model_type="rerank")
    best = client.get_model(uid).rerank(["a bird", "the moon"], "a red bird", top_n=1, return_documents=True)["results"]
    assert len(best) == 1 and best[0]["document"]["text"] == ["a bird", "the moon"][best[0]["index"]], best
    assert client.describe_model(uid)["model_ability"] == ["rerank"]
    client.terminate_model(uid)
    client.unregister_model("rerank", "our-reranker")


def shell(url):
    """The page's lines."""

    def line(text):
        assert text.startswith("xinference ")
        words = text.split()[1:]
        environment = {**os.environ, "XINFERENCE_ENDPOINT": url}
        done = subprocess.run([glimmer, *words], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, (text, done.stderr)
        return done.stdout

    launched = 0
    start = "xinference launch --model-engine"
    for engine, size, kind, quantizations in SPECS:
        size = "1_5" if str(size).startswith("1") else "4"
        for quantization in quantizations[:3]:
            uid = line(
                f"{start} {engine} --model-name glm-edge-chat --size-in-billions {size} --model-format {kind} "
                f"--quantization {quantization}"
            ).strip()
            assert uid == "glm-edge-chat"
            assert quantization in line("xinference list --running")
            line(f"xinference terminate --model-uid {uid}")
            launched += 1
    assert "glm-edge-chat" in line("xinference registrations")
    assert "llama.cpp" in line("xinference engine --model-name glm-edge-chat")
    assert "Q8_0" in line("xinference cached")
    return launched


def with_keys(hubs):
    keys = place / "keys"
    keys.write_text("first\nsecond\n")
    server, url = serve(hubs, "--api-keys", keys)
    refused(Client(url).list_models, "API key")
    refused(Client(url, api_key="wrong").list_models, "API key")
    client = Client(url, api_key="second")
    uid = client.launch_model("glm-edge-chat", model_engine="llama.cpp", quantization="Q8_0")
    assert chats(client.get_model(uid))
    late = Client(url)
    late._set_token("first")
    late.terminate_model(uid)
    end(server)


def end(server):
    server.terminate()
    assert server.wait(60) == 0


try:
    hubs_process, hubs = publish()
    server, url = serve(hubs)
    client = Client(url)
    launched = launch_all(client)
    look_around(client)
    launch_and_watch(client)
    errors(client)
    own_models(client)
    lines = shell(url)
    end(server)
    with_keys(hubs)
    print(f"xinference-client: {launched} launches, {lines} shell lines")
finally:
    hubs_process.terminate()
    shutil.rmtree(place, ignore_errors=True)
