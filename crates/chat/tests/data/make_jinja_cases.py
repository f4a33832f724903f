"""Makes jinja.jsonl and prompts.jsonl: what Jinja2 itself makes of templates and conversations.

    pip install jinja2==3.1.6
    python make_jinja_cases.py [FOLDER_WITH_PUBLISHED_TEMPLATES]

jinja.jsonl holds small templates with their variables and Jinja2's output, or null where Jinja2 fails.
prompts.jsonl holds conversations and the prompts that the models' published templates make of them; the templates
are not part of the repository, and without their folder that file is left as it is.

The environment is that of transformers' `apply_chat_template`.
"""

import json
import random
import sys
from pathlib import Path

from jinja2.exceptions import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = Path(__file__).parent


def environment():
    def raise_exception(message):
        raise TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


ENV = environment()

TEXT = "  Hello, Wörld! 你好 <b>&'\"</b>\n\tline two  \n"
DATA = {
    "s": TEXT,
    "empty": "",
    "n": 7,
    "neg": -7,
    "f": 2.5,
    "big": 1e16,
    "huge": 2**64 - 1,
    "t": True,
    "no": False,
    "none": None,
    "list": [3, 1, 2, 1],
    "words": ["b", "A", "c", "a"],
    "mixed": [1, "one", None, [True, 2.0], {"k": "v"}],
    "d": {"b": 1, "a": [1, 2, {"x": None}], "C": "text"},
    "people": [
        {"name": "Li", "age": 30, "home": {"city": "北京"}},
        {"name": "An", "age": 25, "home": {"city": "Paris"}},
        {"name": "Bo", "age": 30, "home": {"city": "Rome"}},
    ],
    "think": "<think>\nlet me see\n</think>\n\nThe answer",
}

# Cases are separated by ` | ` with spaces; filters are written without.
EXPRESSIONS = """
s | s|trim | s|length | s|upper | s|lower | s|title | s|capitalize | s.strip() | s.lstrip() | s.rstrip() | s.strip(' H\\n')
s.split() | s.split(',') | s.split('l', 1) | s.rsplit('l', 1) | s.split(None, 1) | s.rsplit(None, 1) | s.splitlines()
s.startswith('  He') | s.endswith('\\n') | s.startswith(('x', '  ')) | s.replace('l', 'L') | s.replace('l', 'L', 2) | s|replace('l', '')
s.find('l') | s.rfind('l') | s.find('zz') | s.count('l') | s.index('W') | s.partition(',') | s.rpartition('l') | s.partition('zz')
s[0] | s[2] | s[-1] | s[2:7] | s[:5] | s[-5:] | s[::-1] | s[::3] | s[100] | s[5:2] | s[-100:3] | s[8:1:-2]
s[11:13] | 'ö' in s | 'zz' not in s | s == s | s != 'x' | 'a' < 'b' | 'b' <= 'a' < 'c' | '' in s
'%s and %s' % ('a', 1) | '%d%%' % 5 | '%.2f' % f | '%s|%r' % (none, 'x') | 'a{}b{}'.format(1, 2) | 'a{1}b{0}'.format(1, 2) | '{x} {{}}'.format(x='y') | '%s'|format(n)
'abc' * 3 | 3 * 'ab' | 'a' ~ 1 ~ none ~ true ~ f | 'a' 'b' | 'a' + 'b' | [1] + [2, 3] | [0] * 3
n + 1 | n - 10 | n * 2 | n / 2 | n // 2 | n % 4 | neg // 2 | neg % 4 | 7 // -2 | 7 % -2 | 2 ** 10 | 2 ** -1 | -n | +n | - -n | f * 2 | f // 1 | -f % 2
n == 7.0 | n > f | true + 1 | true == 1 | none == none | none is none | 1 / 4 | 10 / 5 | 1e3 | 1_000 | 0.1 + 0.2 | big | 1.0 | 1e-7
not n | not empty | n and s[0] | empty or 'x' | none or empty or 0 | 1 if t else 2 | 1 if no else 2 | (1 if no) is defined | ('x' if none)
list|sort | list|sort(reverse=true) | words|sort | words|sort(case_sensitive=true) | words|sort|join(', ') | list|unique|list | list|sum | list|min | list|max
list|first | list|last | list|reverse|list | s|reverse | list|length | list|join | list|join('-') | list[1:] | list[-1] | list[9] | list[::2] | list[::-1]
mixed | mixed|string | mixed|length | d | d|length | d|list | d.keys()|list | d.values()|list | d.items()|list | d|items|list | d|dictsort | d|dictsort(by='value')|length
d.a | d['a'] | d.missing | d.get('b') | d.get('zz') | d.get('zz', 5) | d.a[2].x | d['a'][2]['x'] | 'b' in d | 'zz' in d | d.b.c is defined
people|map(attribute='name')|list | people|map(attribute='home.city')|join(',') | people|selectattr('age', 'equalto', 30)|map(attribute='name')|list
people|rejectattr('age', 'eq', 30)|list|length | people|selectattr('home')|list|length | people|sort(attribute='age')|map(attribute='name')|join
people|sum(attribute='age') | people|groupby('age')|length | people|map('length')|list | words|map('upper')|list | list|select('odd')|list | list|reject('gt', 1)|list
list|select|list | [0, 1, '', none, 'x']|select|list | people|map(attribute='zz', default='-')|list
d|tojson | d|tojson(indent=2) | mixed|tojson | s|tojson | s|tojson(ensure_ascii=true) | d|tojson(separators=(',', ':')) | d|tojson(sort_keys=true) | []|tojson(indent=4) | {}|tojson
big|tojson | f|tojson | 1|tojson(indent=4) | '\\u4f60\\x41\\t'|tojson | [[], {}, [1]]|tojson(indent=1)
none | true | [none, true, 1.0, 'a\\'b', "q\\"q", 'both\\'"'] | {'a': 1, 'b': [1, 'x']} | [] | {} | ['a\\nb', '\\\\', '\\x00\\x1f']
missing | missing|default('x') | none|default('x') | none|default('x', true) | missing|d | missing|length | missing is defined | missing is undefined | missing|list | missing ~ 'x' | missing == missing2 | missing or 'y'
n is number | s is string | list is iterable | s is iterable | d is mapping | list is sequence | n is integer | f is float | t is boolean | none is none | t is true | no is false | list is mapping | n is string
n is odd | n is even | n is divisibleby 7 | n is divisibleby(2) | n in list | 3 in list | 3 is in list | n is eq 7 | n is not gt 8 | 'abc' is lower | 'ABC' is upper | range is callable | s is callable | d.b is defined and d.b is not none
f|round | 2.675|round(2) | 2.5|round | 3.5|round | 1234.5|round(-2) | 2.1|round(0, 'ceil') | 2.9|round(0, 'floor') | f|int | '42'|int | 'x'|int | 'x'|int(9) | '4.7'|int | '1.5'|float | 'x'|float | neg|abs | n|float
range(4)|list | range(2, 8, 3)|list | range(5, 0, -2)|list | range(0)|list | dict(a=1, b='x') | dict(a=1).a
s|escape | 'a\\nb\\n\\nc'|indent | 'a\\nb\\n\\nc'|indent(2, true) | 'a\\nb\\n\\nc'|indent(2, blank=true) | 'a\\nb'|indent('> ')
'Hello World'.title() | 'a-b c'.title() | 'ß'.upper() | 'isdigit'.isdigit() | '42'.isdigit() | 'ab'.isalpha() | 'a1'.isalnum() | '  '.isspace() | 'AB'.isupper() | 'x'.join(['1', '2']) | 'abc'.removeprefix('a') | 'abc'.removesuffix('x')
think.split('</think>')[-1].lstrip('\\n') | think.split('</think>')[0].split('<think>')[-1].strip() | '</think>' in think | think.split('</think>')|length | (think.split('</think>')|last)|trim
-1|abs | (-1)|abs | 1 + 2 ~ 3 | 1 ~ 2 + 3 | 2 * 3 ~ 4 | 2 ** 3 ** 2 | not 1 == 2 | 1 < 2 < 3 | 1 < 3 < 2 | [1, 2] < [1, 3] | 'a' in ['a'] == true | n if n > 5 else 0 if t else 1
'a\\rb\\r\\nc\\n\\nd\\x0be'.splitlines() | 'a\\nb\\n'.splitlines(true) | huge | huge + 1 | huge|tojson | [huge] | 2 ** 64 | huge|string|length
(1, 2) | (1,) | () | [1, 2,] | {'a': (1, 2)} | list.index(2) | list.count(1) | words.index('c')
'a' is in(['a', 'b']) | s|default('x')|trim|length | d.items()|first|last | [[1, 'a'], [2, 'b']]|map('last')|join | [1, 2, 3]|map('string')|join('+')
"""

FAILING = """
missing.x | missing['x'] | missing() | missing + 1 | 'a' + 1 | 1 + none | [1] < 1 | 1 / 0 | 1 // 0 | 'a' < 1 | s.nothing() | d.update({'x': 1}) | list.append(4) | none|length | 5|list
raise_exception('no') | 'abc'.index('z') | -'a' | s[1:2:0] | 3() | d.b.c.e | none.x.y
"""

TEMPLATES = [
    "{% for x in list %}{{ loop.index }}/{{ loop.length }}:{{ x }}{{ ',' if not loop.last }}{% endfor %}",
    "{% for x in list if x > 1 %}{{ loop.index0 }}{{ loop.first }}{{ x }};{% else %}none{% endfor %}",
    "{% for x in [] %}x{% else %}empty{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for a, b in [(1, 2), [3, 4]] %}{{ a }}-{{ b }} {% endfor %}",
    "{% for c in 'héj' %}[{{ c }}]{% endfor %}",
    "{% for k in d %}{{ k }}{% endfor %}",
    "{% for x in list %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {{ loop.revindex }}{{ loop.revindex0 }} {% endfor %}",
    "{% for x in list %}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for x in range(5) %}{% if x == 1 %}{% continue %}{% endif %}{% if x == 4 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in [1,2] %}{% for y in [1,2] %}{{ loop.index }}{{ x }}{{ y }} {% endfor %}{{ loop.index }};{% endfor %}",
    "{% set x = 1 %}{% for i in [1,2] %}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}",
    "{% set ns = namespace(x=1, found=false) %}{% for i in [1,2] %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}{{ ns.found }}{{ ns.new is defined }}",
    "{% set ns = namespace() %}{% set ns.a = [1] %}{% set ns.a = ns.a + [2] %}{{ ns.a }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set x %}block {{ n }}{% endset %}[{{ x }}]{{ x|length }}",
    "{% set x | upper | trim %}  block {% endset %}[{{ x }}]",
    "{% if n > 5 %}a{% elif n > 3 %}b{% else %}c{% endif %}",
    "{% if no %}a{% elif none %}b{% elif empty %}c{% else %}d{% endif %}",
    "{% if x is defined and x %}a{% endif %}{% if not x %}b{% endif %}",
    "{% macro m(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}{{ m(1, c='z') }}{{ m(b=5, a=4) }}{{ m(1, 2, 3)|length }}",
    "{% macro m(a) %}{{ a }}{{ n }}{% set z = 3 %}{{ z }}{% endmacro %}{{ m() }}{{ z is defined }}",
    "{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "{% set g = 5 %}{% macro m() %}{{ g }}{% endmacro %}{% set g = 6 %}{{ m() }}",
    "{%- macro m(x) -%}\n  {{- x -}}\n{%- endmacro -%}\n{{ m('a') }} {{ m('b') -}}\n\n c",
    "{% filter upper %}abc {{ s.strip() }}{% endfilter %}",
    "{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}",
    "{% raw %}{{ not }} {% evaluated %}{% endraw %}!",
    "{# comment #}a{#- strip -#} b {# multi\nline #}c",
    "a\n{% if true %}\n  b\n{% endif %}\nc\n",
    "a\n  {%- if true -%}\n  b\n  {%- endif %}\n\nc\n\n",
    "  {% if true %}x{% endif %}  \n  {{ n }}  \n",
    "{{ n }}\n{{ n }}\n\n",
    "a {%+ if true +%} \n b{% endif %}\n",
    "\n\n{% set x = 1 %}\n\n{{ x }}",
    "a\r\nb{% if true %}\r\nc{% endif %}\r\nd",
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "{% for m in messages %}{%- if m.role == 'user' and loop.index0 % 2 == 0 -%}[INST] {{ m.content|trim }} [/INST]{%- elif m.role == 'assistant' -%} {{ m.content|trim }}</s>{%- endif -%}{% endfor %}",
    "{%- set last = namespace(i=-1) -%}{%- for m in messages -%}{%- if m.role == 'user' -%}{%- set last.i = loop.index0 -%}{%- endif -%}{%- endfor -%}{{ last.i }}:{{ messages[last.i].content }}:{{ messages[1:]|length }}:{{ messages[::-1][0].role }}",
    "{% for m in messages %}{% set c = m.content %}{% if '</think>' in c %}{% set c = c.split('</think>')[-1].lstrip('\\n') %}{% endif %}<{{ m.role }}>{{ c }}{% endfor %}",
    "{{ messages[0]['content'] if messages and messages[0].role == 'system' else 'no system' }}",
    "{% if messages[0].nothing is not defined %}fine{% endif %}{{ messages[0].nothing }}",
    "{% set tools = [{'name': 'f', 'args': {'x': 1}}] %}{% for t in tools %}{{ t | tojson(indent=4) }}\n{% endfor %}",
    "{{ '{{' }}{{ \"a\\\"b\" }}{{ 'a\\'b' }}{{ 'tab\\tnew\\nline' }}",
    "{% set x = {'a': {'b': [1, 2, {'c': 'deep'}]}} %}{{ x.a.b[2].c }}{{ x['a']['b'][0] }}",
    "{{ s.strip().split(',')[0].upper()[1:3]|lower }}",
    "{{ (people|first).home.city ~ people[-1]['name'] }}",
    "{% do list|length %}x",
    "{{ (1, 2) == [1, 2] }}{{ (1, 2) == (1, 2) }}{{ [(1, 'a')] == [(1, 'a')] }}{{ 1 in (1, 2) }}{{ (1, 2)[1:] }}",
    "{%if n%}a{%endif%}{{n}}{%-if n-%} b {%-endif-%}",
    "{{ [1, 2,\n 3] }}{{ {'a':\n1} }}",
    "{% for i in range(3) -%}\n{{ i }}\n{%- endfor %}",
    "{% set x = none %}{{ x }}{{ x is none }}{{ x if x is not none else 'nil' }}",
    "{{ '' ~ (1, 2) }}",
    "{%- set offered = tools | default(messages[0]['tools'], true) | default([], true) %}{{ offered }}{%- if offered %}x{% endif %}",
]

MESSAGES = [
    {"role": "system", "content": "You are 'helpful'.\n"},
    {"role": "user", "content": " first question? "},
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\nfirst answer"},
    {"role": "user", "content": "second <|im_end|> 问题"},
]


def outcome(template):
    try:
        return ENV.from_string(template).render(
            messages=MESSAGES, tools=None, documents=None, add_generation_prompt=True, **DATA
        )
    except Exception:
        return None


def jinja_cases():
    for line in (EXPRESSIONS + FAILING).strip().splitlines():
        for expression in line.split(" | "):
            template = "{{ " + expression.strip() + " }}"
            yield template, outcome(template)
    for template in TEMPLATES:
        yield template, outcome(template)


SNIPPETS = [
    "", " ", "\n", "hi", "你好", "  padded  ", "\n\nlead", "trail\n\n", "tab\there", "a\u00a0b", "\u3000full\u3000", "\x1csep\x1f",
    "multi\nline\ntext", "emoji 👩‍💻🇨🇳", "<b>&amp;</b>", "'quotes\" \\ back", "</think>", "<think>x</think>y", "<think>\n\nr\n\n</think>\n\na",
    "a</think>b</think>c", "<think>only", "/nothink", "do it/nothink", "{% raw %}", "{{ x }}", "\u200bzero", "é", "x" * 50,
    "[[训练时间]]", "```python\ndef f(x):\n    return x\n```",
]

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "城市 \"名\""}, "days": {"type": "integer", "minimum": 0.5}},
    "required": ["city"],
}
TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "天气 & <more>", "parameters": PARAMETERS}},
    {"type": "function", "function": {"name": "add", "parameters": {}, "flags": [], "on": True, "off": None, "big": 1e20}},
]


def random_text(rng):
    return "".join(rng.choice(SNIPPETS) for _ in range(rng.randint(0, 3)))


def random_conversation(rng, roles, openai):
    messages = []
    for _ in range(rng.randint(1, 6)):
        role = rng.choice(roles)
        message = {"role": role, "content": random_text(rng)}
        if role == "assistant" and openai and rng.random() < 0.4:
            message["tool_calls"] = [
                {"type": "function", "function": {"name": rng.choice(["get_weather", "add"]), "arguments": arguments}}
                for arguments in rng.sample([{}, {"city": random_text(rng), "days": 3}, {"x": [1, {"y": None}], "f": 2.50, "t": True}], rng.randint(1, 2))
            ]
        if role == "assistant" and openai and rng.random() < 0.4:
            message["reasoning_content"] = random_text(rng)
        if role == "assistant" and not openai and rng.random() < 0.3:
            message["metadata"] = "get_weather"
        if role == "tool" and rng.random() < 0.3:
            message["content"] = [{"output": random_text(rng)}, "raw " + random_text(rng)]
        if role == "user" and openai and rng.random() < 0.2:
            message["content"] = [{"type": "text", "text": random_text(rng)}, {"type": "text", "text": "part"}]
        messages.append(message)
    return messages


def prompt_cases(folder):
    rng = random.Random(20240605)
    for name, template, roles in [
        ("glm-4", "glm-4-9b-chat", ["system", "user", "assistant", "observation"]),
        ("glm-4-0414", "glm-4-0414", ["system", "user", "assistant", "observation"]),
        ("glm-z1", "glm-z1-0414", ["system", "user", "assistant", "observation"]),
        ("glm-edge", "glm-edge-chat", ["system", "user", "assistant", "observation"]),
        ("glm-4.5", "glm-4.5-4.6", ["system", "user", "assistant", "tool"]),
        ("glm-4.7", "glm-4.7", ["system", "user", "assistant", "tool"]),
    ]:
        compiled = ENV.from_string((folder / f"{template}.jinja").read_text())
        openai = name in ("glm-4.5", "glm-4.7")
        for i in range(30):
            messages = random_conversation(rng, roles, openai)
            case = {"messages": messages, "add_generation_prompt": rng.random() < 0.8}
            variables = {}
            if name == "glm-4":
                if rng.random() < 0.4:
                    messages[0]["tools"] = TOOLS + [{"type": t} for t in rng.sample(["python", "simple_browser", "cogview", "unknown"], 2)]
                variables["tools"] = None
            elif rng.random() < 0.4 and name != "glm-edge":
                case["tools"] = TOOLS if openai or rng.random() < 0.5 else [t["function"] for t in TOOLS]
            if openai:
                for switch in ["enable_thinking", "clear_thinking"]:
                    if rng.random() < 0.5:
                        variables[switch] = case[switch] = rng.random() < 0.5
            prompt = compiled.render(
                messages=messages,
                tools=case.get("tools"),
                add_generation_prompt=case["add_generation_prompt"],
                **{k: v for k, v in variables.items() if k != "tools"},
            )
            yield {"format": name, **case, "prompt": prompt}


def write(name, cases):
    with open(HERE / name, "w", encoding="utf-8") as file:
        for case in cases:
            file.write(json.dumps(case, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    header = {"variables": DATA, "messages": MESSAGES}
    write("jinja.jsonl", [header] + [{"template": t, "output": o} for t, o in jinja_cases()])
    if len(sys.argv) > 1:
        write("prompts.jsonl", prompt_cases(Path(sys.argv[1])))
