"""instructor against a Glimmer server at GLIMMER_URL: answers of a type by a tool and by a JSON schema."""

from importlib.metadata import version

import instructor
import openai
from weather import MESSAGES, URL, Weather

client = openai.OpenAI(base_url=URL, api_key="none", max_retries=0)
for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
    typed = instructor.from_openai(client, mode=mode).chat.completions
    asked = {"model": "demo", "messages": MESSAGES, "response_model": Weather, "temperature": 0, "max_retries": 0}
    form, answer = typed.create_with_completion(**asked)
    assert isinstance(form, Weather) and answer.usage.completion_tokens > 0
    by_tool = mode == instructor.Mode.TOOLS
    assert answer.choices[0].finish_reason == ("tool_calls" if by_tool else "stop")
    assert bool(answer.choices[0].message.tool_calls) == by_tool
    # What is not finished it reads from Python's values, where a strict Pydantic takes no text for an Enum.
    *_, last = typed.create_partial(**asked, strict=False)
    Weather.model_validate(last.model_dump())
print(f"instructor {version('instructor')} (openai {version('openai')}): good")
