"""dspy over /v1/responses, its mode for that, against a Glimmer server at GLIMMER_URL."""

import os
from importlib.metadata import version

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import dspy
from weather import QUESTION, URL, Weather

common = {"api_base": URL, "api_key": "none", "temperature": 0, "max_tokens": 200, "cache": False, "num_retries": 0}
lm = dspy.LM("openai/demo", model_type="responses", **common)


def said(question, **more):
    (answer,) = lm(question, **more)
    assert lm.history[-1]["usage"]["total_tokens"] > 0
    return answer["text"] if isinstance(answer, dict) else answer


Weather.model_validate_json(said(QUESTION, response_format=Weather))
assert dspy.LM("openai/demo", **common)(QUESTION)[0] == said(QUESTION)
print(f"dspy {version('dspy')}: good")
