"""bfcl-eval's own program, with a model `glimmer` that is whatever a server of the OpenAI API serves: see README.md.

    OPENAI_BASE_URL=http://127.0.0.1:8000/v1 python score.py generate --model glimmer --test-category simple_python
    python score.py evaluate --model glimmer --test-category simple_python

bfcl-eval 2026.3.23.
"""

import os

from bfcl_eval.constants.model_config import MODEL_CONFIG_MAPPING, ModelConfig
from bfcl_eval.model_handler.api_inference.openai_completion import OpenAICompletionsHandler

# The client wants one; a server without keys ignores it.
os.environ.setdefault("OPENAI_API_KEY", "none")
MODEL_CONFIG_MAPPING["glimmer"] = ModelConfig(
    # The model's name to the server; one that is given no other name takes any.
    model_name=os.environ.get("GLIMMER_MODEL", "demo"),
    display_name="glimmer",
    url="",
    org="",
    license="",
    model_handler=OpenAICompletionsHandler,
    is_fc_model=True,
    # Names are sent with `_` for `.`, and compared so.
    underscore_to_dot=True,
)

from bfcl_eval.__main__ import cli  # noqa: E402  the model must be known before

cli()
