"""The conversation that clients have with the demo model: a question, a call of a tool, its result, and what is said of it."""

import os
from enum import Enum
from typing import Annotated, Literal

from pydantic import BaseModel, Field

URL = os.environ["GLIMMER_URL"] + "/v1"
QUESTION = "And what's the weather like in Oslo today?"
MESSAGES = [{"role": "user", "content": QUESTION}]
OBSERVED = '{"temperature": -4, "condition": "snow"}'
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get the current weather in a city",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "description": "The name of the city"}},
                "required": ["city"],
            },
        },
    }
]

called = []


def get_weather(city: Annotated[str, "The name of the city"]) -> str:
    """Get the current weather in a city"""
    called.append(city)
    return OBSERVED


def check_called():
    """The tool was called once since the last check, for the city of the question."""
    assert called == ["Oslo"], called
    called.clear()


def check_told(text):
    """It was, and its result went back to the model."""
    check_called()
    assert "-4" in text and "snow" in text, text


class GetWeather(BaseModel):
    """Get the current weather in a city"""

    city: Annotated[str, Field(description="The name of the city")]


class Condition(Enum):
    SNOW = "snow"
    RAIN = "rain"


class Wind(BaseModel):
    speed: Annotated[int, Field(ge=0, le=40)]
    direction: Literal["north", "south"]


class Weather(BaseModel):
    """The weather in a city. The demo model knows no such form: that an answer has it is the server's doing."""

    city: Literal["Oslo", "Bergen"]
    temperature: Annotated[int, Field(ge=-9, le=9)]
    condition: Condition
    wind: Wind | None
