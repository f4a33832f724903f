"""The published client of Ollama, unchanged: conversations, tools, forms, vectors, and the models of a server that clients may
change, over the stand-in of the hubs; and LangChain's above it.

Usage: ollama_client.py GLIMMER STAND_IN ROOT
"""

import asyncio
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from typing import Literal

import ollama
from langchain_ollama import ChatOllama, OllamaEmbeddings
from pydantic import BaseModel

# It is not asked at the address that the other clients have.
os.environ.setdefault("GLIMMER_URL", "")
import weather  # noqa: E402

glimmer, stand_in, root = (pathlib.Path(word).resolve() for word in sys.argv[1:])
place = pathlib.Path(tempfile.mkdtemp(prefix="glimmer-ollama-"))
GREEDY = {"temperature": 0, "num_predict": 120}


class Town(BaseModel):
    city: Literal["Bergen", "Moss"]


def get_weather(city: str) -> str:
    """Get the current weather in a city

    Args:
      city: The name of the city
    """
    return weather.OBSERVED


def publish():
    """The demo model under a published name."""
    folder = place / "published"
    folder.mkdir()
    shutil.copy(root / "crates/glimmer/assets/demo.gguf", folder / "ggml-model-Q4_K_M.gguf")
    (folder / "LICENSE").write_text("as you like\n")
    words = [f"{owner}/glm-edge-1.5b-chat-gguf={folder}" for owner in ["zai-org", "ZhipuAI"]]
    server = subprocess.Popen([stand_in, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return server, server.stdout.readline().strip()


def serve(hubs):
    """A server whose models clients may change, and its address."""
    environment = {
        **os.environ,
        "GLIMMER_ACCEPT_LICENCE": "1",
        "HF_ENDPOINT": hubs,
        "MODELSCOPE_ENDPOINT": hubs,
        "HF_HOME": str(place / "hf"),
        "MODELSCOPE_CACHE": str(place / "ms"),
        "XDG_DATA_HOME": str(place / "data"),
    }
    encoder = root / "fixtures/text2vec-bert"
    command = [glimmer, "local", "demo", "--ollama", "--port", "0", "--embedding-model", encoder]
    server = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    for line in server.stderr:
        if " at http://" in line:
            url = line.split(" at ")[1].split(";")[0]
            break
    else:
        raise SystemExit("the server does not start")
    subprocess.Popen(["cat"], stdin=server.stderr, stdout=open(place / "server.log", "w"))
    return server, url


def refused(call, status, *words):
    try:
        call()
    except ollama.ResponseError as error:
        assert error.status_code == status and all(word in error.error for word in words), error
    else:
        raise AssertionError(f"not refused: {words}")


def conversations(client, url):
    ask = {"model": "demo", "messages": weather.MESSAGES, "options": GREEDY}
    whole = client.chat(**ask)
    assert whole.done and whole.done_reason == "stop" and whole.message.content
    assert whole.total_duration > 0 and whole.eval_count > 0 and whole.prompt_eval_count > 0
    parts = list(client.chat(**ask, stream=True))
    assert "".join(part.message.content for part in parts) == whole.message.content
    assert parts[-1].done and parts[-1].eval_count == whole.eval_count
    generated = client.generate("demo", weather.QUESTION, options=GREEDY)
    assert generated.response == whole.message.content
    parts = client.generate("demo", weather.QUESTION, options=GREEDY, stream=True)
    assert "".join(part.response for part in parts) == whole.message.content
    formed = client.chat(**ask, format=Town.model_json_schema())
    assert Town.model_validate_json(formed.message.content)
    asked = client.chat(**ask, logprobs=True, top_logprobs=2)
    assert len(asked.logprobs) > 0 and len(asked.logprobs[0].top_logprobs) == 2

    async def alone():
        parts = await ollama.AsyncClient(url).chat(**ask, stream=True)
        return "".join([part.message.content async for part in parts])

    assert asyncio.run(alone()) == whole.message.content
    refused(lambda: client.chat("nobody", weather.MESSAGES), 404, "model 'nobody' not found")
    refused(lambda: list(client.chat("nobody", weather.MESSAGES, stream=True)), 404, "not found")
    refused(lambda: client.chat(**{**ask, "options": {"mirostat": 2}}), 400, "mirostat")
    refused(lambda: client.chat(**ask, think=True), 400, "thinking")
    refused(lambda: client.generate("demo", "x", suffix="y"), 400, "suffix")


def tools(client):
    for stream in [False, True]:
        messages = list(weather.MESSAGES)
        for tools in [[get_weather], weather.TOOLS]:
            answer = client.chat("demo", messages, tools=tools, options=GREEDY, stream=stream)
            parts = list(answer) if stream else [answer]
            calls = [call for part in parts for call in part.message.tool_calls or []]
            assert [(call.function.name, call.function.arguments) for call in calls] == [
                ("get_weather", {"city": "Oslo"})
            ], calls
        result = get_weather(**calls[0].function.arguments)
        messages.append({"role": "assistant", "tool_calls": calls})
        messages.append({"role": "tool", "tool_name": "get_weather", "content": result})
        told = client.chat("demo", messages, tools=weather.TOOLS, options=GREEDY)
        assert "-4" in told.message.content and not told.message.tool_calls, told


def vectors(client):
    answer = client.embed("text2vec-bert", ["你好", "hello"])
    assert len(answer.embeddings) == 2 and answer.prompt_eval_count > 0
    for vector in answer.embeddings:
        assert abs(sum(x * x for x in vector) - 1) < 1e-5
    few = client.embed("text2vec-bert", "你好", dimensions=8).embeddings[0]
    assert len(few) == 8 and abs(sum(x * x for x in few) - 1) < 1e-5
    raw = client.embeddings("text2vec-bert", "你好").embedding
    length = sum(x * x for x in raw) ** 0.5
    assert all(abs(x / length - y) < 1e-5 for x, y in zip(raw, answer.embeddings[0]))
    refused(lambda: client.embed("demo", "x"), 400, "no vectors")


def models(client):
    names = {model.model for model in client.list().models}
    assert names == {"demo:latest", "text2vec-bert:latest"}, names
    shown = client.show("demo")
    assert shown.capabilities == ["completion", "tools"] and shown.modelinfo["general.architecture"]
    running = {model.model: model for model in client.ps().models}
    assert running["demo:latest"].context_length > 0 and running["demo:latest"].expires_at.year > 2025

    steps = [(step.status, step.completed, step.total) for step in client.pull("glm-edge:1.5b", stream=True)]
    assert steps[0][0] == "pulling manifest" and steps[-1][0] == "success", steps
    assert client.pull("glm-edge:1.5b").status == "success"
    refused(lambda: client.pull("glm-edge:7b"), 400, "glm-edge")
    assert "glm-edge:1.5b" in {model.model for model in client.list().models}
    answer = client.chat("glm-edge:1.5b", weather.MESSAGES, options=GREEDY).message.content
    assert answer == client.chat("demo", weather.MESSAGES, options=GREEDY).message.content

    assert client.create("brief", from_="glm-edge:1.5b", system="Be brief.", parameters=GREEDY).status == "success"
    own = client.chat("brief", weather.MESSAGES).message.content
    system = [{"role": "system", "content": "Be brief."}, *weather.MESSAGES]
    assert own == client.chat("demo", system, options=GREEDY).message.content
    assert "temperature" in client.show("brief").parameters and "Be brief." in client.show("brief").modelfile
    refused(lambda: client.create("odd", from_="demo", template="{{ .Prompt }}"), 400, "template")
    client.copy("brief", "short")
    assert client.chat("short", weather.MESSAGES).message.content == own
    refused(lambda: client.delete("glm-edge:1.5b"), 400, "brief")
    for name in ["brief", "short", "glm-edge:1.5b"]:
        assert client.delete(name).status == "success"
    refused(lambda: client.delete("brief"), 404, "not found")
    assert {model.model for model in client.list().models} == names
    assert client.generate("demo", keep_alive=0).done_reason == "unload"


def langchain(url):
    chat = ChatOllama(model="demo", base_url=url, temperature=0, num_predict=120, validate_model_on_init=True)
    text = chat.invoke(weather.QUESTION).content
    assert text and "".join(chunk.content for chunk in chat.stream(weather.QUESTION)) == text
    called = chat.bind_tools([get_weather]).invoke(weather.QUESTION)
    assert called.tool_calls[0]["args"] == {"city": "Oslo"}, called
    assert chat.with_structured_output(Town).invoke(weather.QUESTION).city in ["Bergen", "Moss"]
    assert len(OllamaEmbeddings(model="text2vec-bert", base_url=url).embed_query("你好")) > 8


try:
    hubs_process, hubs = publish()
    server, url = serve(hubs)
    client = ollama.Client(url)
    conversations(client, url)
    tools(client)
    vectors(client)
    models(client)
    langchain(url)
    server.terminate()
    assert server.wait(60) == 0
    print("ollama for Python: all as wanted")
finally:
    for process in [hubs_process, server]:
        process.kill()
    shutil.rmtree(place, ignore_errors=True)
