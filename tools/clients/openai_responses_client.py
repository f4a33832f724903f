"""The OpenAI client for Python over /v1/responses, against a Glimmer server at GLIMMER_URL: items, events, tools, types, what the
server keeps. With `thinking` against a model that thinks: its thoughts come back sealed."""

import json
import sys
import time

import openai
from weather import OBSERVED, QUESTION, TOOLS, URL, GetWeather, Weather, called, check_told

client = openai.OpenAI(base_url=URL, api_key="none", max_retries=0)
ask = client.responses.create
asked = {"model": "demo", "temperature": 0}
tools = [{"type": "function", "strict": False, **tool["function"]} for tool in TOOLS]
user = {"role": "user", "content": QUESTION}


def streamed(**more):
    """The helper that puts a stream together."""
    with client.responses.stream(**more) as stream:
        kinds = [event.type for event in stream]
        response = stream.get_final_response()
    assert kinds[:3] == ["response.created", "response.in_progress", "response.output_item.added"] and kinds[-1] == "response.completed"
    return response


def raw(**more):
    """The events themselves; numbered, and the last one has all that was told."""
    events = list(ask(stream=True, **more))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert events[-1].response.output_text == text
    return events[-1].response


def answer(call):
    called.append(json.loads(call.arguments)["city"])
    return {"type": "function_call_output", "call_id": call.call_id, "output": OBSERVED}


def think():
    """A conversation that nobody but the client keeps, thoughts and all. The demo model does not find their end itself."""
    stateless = {**asked, "store": False, "include": ["reasoning.encrypted_content"], "extra_body": {"thinking_budget": 6}}
    for put in (ask, streamed, raw):
        first = put(input="Hello!", **stateless)
        thoughts, said = first.output
        assert thoughts.content[0].text and thoughts.encrypted_content and said.type == "message"
        assert first.usage.output_tokens_details.reasoning_tokens > 0
        history = [{"role": "user", "content": "Hello!"}, *first.output, {"role": "user", "content": "Why?"}]
        assert put(input=history, **stateless).output_text
    off = ask(input="Hello!", reasoning={"effort": "none"}, **asked)
    assert [item.type for item in off.output] == ["message"]


def converse():
    for put in (ask, streamed, raw):
        said = put(input="Hello!", **asked)
        assert said.output_text and said.status == "completed" and said.usage.total_tokens > 0
        # By what the server keeps, and by what the client sends.
        first = put(input=QUESTION, tools=tools, **asked)
        (call,) = first.output
        assert call.type == "function_call" and call.name == "get_weather"
        check_told(put(input=[answer(call)], previous_response_id=first.id, tools=tools, **asked).output_text)
        check_told(put(input=[user, call, answer(call)], tools=tools, store=False, **asked).output_text)
    cut = ask(input="Hello!", max_output_tokens=1, **asked)
    assert cut.status == "incomplete" and cut.incomplete_details.reason == "max_output_tokens"
    scored = ask(input="Hello!", top_logprobs=2, include=["message.output_text.logprobs"], **asked)
    assert len(scored.output[0].content[0].logprobs[0].top_logprobs) == 2


def types():
    tool = openai.pydantic_function_tool(GetWeather, name="get_weather")["function"]
    (call,) = client.responses.parse(input=QUESTION, tools=[{"type": "function", **tool}], **asked).output
    assert call.parsed_arguments == {"city": "Oslo"} or call.parsed_arguments == GetWeather(city="Oslo")
    whole = client.responses.parse(input=QUESTION, text_format=Weather, **asked).output_parsed
    assert isinstance(whole, Weather)
    with client.responses.stream(input=QUESTION, text_format=Weather, **asked) as stream:
        assert stream.get_final_response().output_parsed == whole
    custom = {"type": "custom", "name": "run", "format": {"type": "grammar", "syntax": "regex", "definition": "ls|pwd"}}
    (call,) = ask(input=QUESTION, tools=[custom], tool_choice={"type": "custom", "name": "run"}, **asked).output
    assert call.type == "custom_tool_call" and call.input in ("ls", "pwd")


def kept():
    response = ask(input=[user, {"role": "user", "content": "Hello!"}], metadata={"a": "b"}, **asked)
    again = client.responses.retrieve(response.id)
    assert again == response and again.metadata == {"a": "b"}
    items = list(client.responses.input_items.list(response.id, order="asc", limit=1))
    assert [item.content[0].text for item in items] == [QUESTION, "Hello!"]
    client.responses.delete(response.id)
    for forgotten in (client.responses.retrieve, client.responses.delete, client.responses.cancel):
        try:
            forgotten(response.id)
            raise AssertionError("it is still there")
        except openai.NotFoundError as error:
            assert response.id in error.message
    try:
        ask(input="?", previous_response_id=response.id, **asked)
        raise AssertionError("it is still there")
    except openai.BadRequestError as error:
        assert error.code == "previous_response_not_found" and error.param == "previous_response_id"
    made = ask(input="Hello!", background=True, **asked)
    while made.status == "in_progress":
        time.sleep(0.02)
        made = client.responses.retrieve(made.id)
    assert made.status == "completed" and made.output_text
    long = ask(input="Hello!", background=True, extra_body={"ignore_eos": True}, **asked)
    assert client.responses.cancel(long.id).status == "cancelled"


if sys.argv[1:] == ["thinking"]:
    think()
else:
    converse()
    types()
    kept()
print(f"responses of openai {openai.__version__} for Python{' that think' if sys.argv[1:] else ''}: good")
