"""LangChain against a Glimmer server at GLIMMER_URL: ChatOpenAI, answers of a type, and agents with tools."""

from importlib.metadata import version

from langchain.agents import create_agent
from langchain.agents.middleware import wrap_model_call
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from weather import MESSAGES, QUESTION, URL, Weather, called, check_called, check_told, get_weather

chat = ChatOpenAI(model="demo", base_url=URL, api_key="none", temperature=0, max_retries=0, stream_usage=True)
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

# Tools, by hand.
tools = [tool(get_weather)]
calling = chat.bind_tools(tools)
history = [HumanMessage(QUESTION)]
answer = calling.invoke(history)
gathered = None
for chunk in calling.stream(history):
    gathered = chunk if gathered is None else gathered + chunk
assert [(call["name"], call["args"]) for call in gathered.tool_calls] == [("get_weather", {"city": "Oslo"})]
assert gathered.usage_metadata == answer.usage_metadata | {
    "input_token_details": gathered.usage_metadata["input_token_details"]
}
assert answer.response_metadata["finish_reason"] == "tool_calls" and not answer.invalid_tool_calls
history += [answer] + [tools[0].invoke(call) for call in answer.tool_calls]
assert isinstance(history[-1], ToolMessage)
check_told(calling.invoke(history).content)

# Agents.
agent = create_agent(chat, tools)
messages = agent.invoke({"messages": MESSAGES})["messages"]
assert [type(message).__name__ for message in messages] == ["HumanMessage", "AIMessage", "ToolMessage", "AIMessage"]
assert all(message.usage_metadata["output_tokens"] > 0 for message in messages if isinstance(message, AIMessage))
check_told(messages[-1].content)
pieces = [chunk.content for chunk, _ in agent.stream({"messages": MESSAGES}, stream_mode="messages") if chunk.type == "AIMessageChunk"]
assert len(pieces) > 4
check_told("".join(pieces))

# Answers of a type.
for method, strict in [("json_schema", None), ("json_schema", True), ("function_calling", None), ("function_calling", True)]:
    assert isinstance(chat.with_structured_output(Weather, method=method, strict=strict).invoke(QUESTION), Weather)
for strategy in (ProviderStrategy, ToolStrategy):
    agent = create_agent(chat, response_format=strategy(Weather))
    assert isinstance(agent.invoke({"messages": MESSAGES})["structured_response"], Weather)


@wrap_model_call
def until_called(request, handler):
    """Has the tool there until it was called: the demo model would go on with it."""
    return handler(request.override(tools=[]) if called else request)


# A tool and a type at once.
agent = create_agent(chat, tools, response_format=ProviderStrategy(Weather, strict=True), middleware=[until_called])
assert isinstance(agent.invoke({"messages": MESSAGES})["structured_response"], Weather)
check_called()
print(f"langchain {version('langchain')} with langchain-openai {version('langchain-openai')}: good")
