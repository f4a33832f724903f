"""LangChain's ChatOpenAI against a Glimmer server at GLIMMER_URL."""

import os
from importlib.metadata import version

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI

chat = ChatOpenAI(
    model="demo", base_url=os.environ["GLIMMER_URL"] + "/v1", api_key="none", temperature=0, max_retries=0
)
answer = chat.invoke("Hello!")
assert answer.content and answer.response_metadata["finish_reason"] == "stop"
assert answer.usage_metadata["total_tokens"] > 0

assert "".join(chunk.content for chunk in chat.stream("Hello!")) == answer.content
history = [SystemMessage("Be brief."), HumanMessage("Hello!"), AIMessage(answer.content), HumanMessage("3 + 4?")]
assert chat.invoke(history).content
assert [one.content for one in chat.batch(["Hello!", "Hello!"])] == [answer.content] * 2
word = answer.content.split()[-1]
assert word not in chat.invoke("Hello!", stop=[word]).content
assert len(chat.bind(logprobs=True).invoke("Hello!").response_metadata["logprobs"]["content"]) > 0
print(f"langchain-openai {version('langchain-openai')}: good")
