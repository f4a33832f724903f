"""Pictures through the published clients, against a tiny model that sees at GLIMMER_URL, called `eye`: OpenAI's for conversations and
for responses, Anthropic's, Ollama's, LangChain's. All show the same picture and are told the same.

Usage: pictures_client.py PICTURE
"""

import base64
import os
import sys
from pathlib import Path

import anthropic
import ollama
import openai
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI

URL = os.environ["GLIMMER_URL"]
picture = Path(sys.argv[1])
encoded = base64.b64encode(picture.read_bytes()).decode()
uri = f"data:image/png;base64,{encoded}"
# Tokens are bytes, and what fills a page of 32 of them is remembered.
question = "What is it, and what else is there to be seen beside it?"
shown = {"type": "image_url", "image_url": {"url": uri, "detail": "high"}}
parts = [shown, {"type": "text", "text": question}]

client = openai.OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0)
asked = {"model": "eye", "temperature": 0, "max_tokens": 8}
answer = client.chat.completions.create(messages=[{"role": "user", "content": parts}], **asked)
told = answer.choices[0].message.content
tokens = answer.usage.prompt_tokens
blind = client.chat.completions.create(messages=[{"role": "user", "content": question}], **asked)
assert blind.choices[0].message.content != told and blind.usage.prompt_tokens < tokens

stream = client.chat.completions.create(messages=[{"role": "user", "content": parts}], stream=True, **asked)
assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices) == told

# The second question: the picture is remembered with all before it.
history = [
    {"role": "user", "content": parts},
    {"role": "assistant", "content": told},
    {"role": "user", "content": "And what else?"},
]
again = client.chat.completions.create(messages=history, **asked)
assert again.usage.prompt_tokens_details.cached_tokens > 0

content = [{"type": "input_image", "image_url": uri, "detail": "auto"}, {"type": "input_text", "text": question}]
response = client.responses.create(
    model="eye", input=[{"role": "user", "content": content}], temperature=0, max_output_tokens=8
)
assert response.output_text == told and response.usage.input_tokens == tokens

source = {"type": "base64", "media_type": "image/png", "data": encoded}
messages = [{"role": "user", "content": [{"type": "image", "source": source}, {"type": "text", "text": question}]}]
claude = anthropic.Anthropic(base_url=URL, api_key="none", max_retries=0)
message = claude.messages.create(model="eye", max_tokens=8, messages=messages, extra_body={"temperature": 0})
assert message.content[0].text == told
assert claude.messages.count_tokens(model="eye", messages=messages).input_tokens == tokens

local = ollama.Client(host=URL)
options = {"temperature": 0, "num_predict": 8}
# It reads the file by its path.
chat = local.chat("eye", messages=[{"role": "user", "content": question, "images": [str(picture)]}], options=options)
assert chat.message.content == told
assert local.generate("eye", question, images=[picture.read_bytes()], options=options).response == told
assert "vision" in local.show("eye").capabilities

chain = ChatOpenAI(model="eye", base_url=f"{URL}/v1", api_key="none", temperature=0, max_tokens=8, max_retries=0)
assert chain.invoke([HumanMessage(content=parts)]).content == told

for wrong in ("data:image/png;base64,aGVsbG8=", "http://127.0.0.1:1/a.png", "file:///etc/passwd"):
    try:
        part = {"type": "image_url", "image_url": {"url": wrong}}
        client.chat.completions.create(messages=[{"role": "user", "content": [part]}], **asked)
        raise AssertionError(wrong)
    except openai.BadRequestError as error:
        assert error.code == "invalid_image", error
print("pictures: openai, anthropic, ollama and LangChain are told the same")
