"""LlamaIndex against a Glimmer server at GLIMMER_URL: calls, agents, answers of a type."""

import asyncio
from importlib.metadata import version

from llama_index.core.agent.workflow import AgentStream, FunctionAgent, ToolCallResult
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from weather import OBSERVED, QUESTION, URL, Weather, called, check_told, get_weather

llm = OpenAILike(
    model="demo", api_base=URL, api_key="none", context_window=2048, temperature=0, max_retries=0,
    is_chat_model=True, is_function_calling_model=True,
)
tool = FunctionTool.from_defaults(get_weather)
oslo = [("get_weather", {"city": "Oslo"})]
hello = [ChatMessage("Hello!")]
said = llm.chat(hello)
assert said.message.content and said.raw.usage.completion_tokens > 0
assert "".join(piece.delta for piece in llm.stream_chat(hello)) == said.message.content

# What this does with a call is to make it, and no more.
assert str(llm.predict_and_call([tool], user_msg=QUESTION)) == OBSERVED and called == ["Oslo"]
called.clear()
*_, last = llm.stream_chat_with_tools([tool], user_msg=QUESTION)
assert [(call.tool_name, call.tool_kwargs) for call in llm.get_tool_calls_from_response(last)] == oslo
# It wants a call where there is nothing to call, and gets an answer.
assert llm.chat_with_tools([], user_msg="Hello!", tool_required=True).message.content


async def agents():
    for streaming in (False, True):
        handler = FunctionAgent(tools=[tool], llm=llm, streaming=streaming).run(QUESTION)
        events = [event async for event in handler.stream_events()]
        answer = str(await handler)
        results = [event for event in events if isinstance(event, ToolCallResult)]
        assert [(result.tool_name, result.tool_kwargs) for result in results] == oslo
        assert results[0].tool_output.content == OBSERVED
        pieces = [event.delta for event in events if isinstance(event, AgentStream)]
        assert not streaming or len(pieces) > 4 and "".join(pieces) == answer
        check_told(answer)


asyncio.run(agents())

# By a tool that is required.
assert isinstance(llm.structured_predict(Weather, PromptTemplate("Weather in {city}?"), city="Oslo"), Weather)
assert isinstance(llm.as_structured_llm(Weather).chat([ChatMessage(QUESTION)]).raw, Weather)
print(f"llama-index-llms-openai-like {version('llama-index-llms-openai-like')} (openai {version('openai')}): good")
