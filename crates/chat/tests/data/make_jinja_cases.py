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
    "vast": 123456789012345678901234567890123456789012345,
    "low": -(2**130),
    "d8": 2**64,
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
# What real templates take now and then, and what stands beside it in Jinja2's lists.
'%05d' % n | '%5d|' % n | '%-5d|' % n | '%+d' % n | '% d' % n | '%x' % 255 | '%#x' % 255 | '%#X' % 255 | '%o' % 8 | '%#o' % 8 | '%08.3f' % f | '%.3s' % s.strip() | '%10s|' % 'a' | '%-10s|' % 'a'
'%e' % 12345.678 | '%E' % f | '%g' % 0.0001 | '%g' % 0.00001 | '%g' % 1234567.0 | '%#g' % f | '%G' % 1e-7 | '%c' % 'x' | '%c' % 97 | '%a' % 'x' | '%(a)s-%(b)05d' % {'a': 1, 'b': 2} | '%*d' % (5, n) | '%.*f' % (1, f) | '%i' % 2.9 | '%u' % n | '%ld' % n
'%5s%%' % 'a' | '%d' % true | '%s' % [1] | '%s %s' % ('a', [1]) | '%.0f' % f | '%.10g' % 0.1 | '%5.1f|' % -2.25 | '%-8.2f|' % f | '%+.1e' % 0.0 | '%05d' % -7 | '%.4d' % 7 | 'x' % [1] | '%s' % {'a': 1} | 'x' % {'a': 1} | '%s'|format('a') | '%(x)s'|format(x=1)
'{:05d}'.format(n) | '{:>5}|'.format('a') | '{:<5}|'.format('a') | '{:^6}|'.format('a') | '{:*^6}|'.format('a') | '{:.2f}'.format(f) | '{:,}'.format(1234567) | '{:_}'.format(1234567) | '{:+d}'.format(n) | '{: d}'.format(n) | '{:x}'.format(255) | '{:#x}'.format(255) | '{:#b}'.format(5) | '{:o}'.format(8)
'{:e}'.format(f) | '{:g}'.format(1e10) | '{:%}'.format(0.25) | '{:.1%}'.format(0.25) | '{:.3}'.format(3.14159) | '{:.3}'.format('abcdef') | '{!r}'.format('a') | '{!s:>4}'.format(1) | '{0.a}'.format(d) is defined | '{0[a]}'.format({'a': 5}) | '{a[0]}'.format(a=[7]) | '{:{w}}|'.format('a', w=4) | '{:010.2f}'.format(-f) | '{:=+6d}'.format(n)
'{:010,}'.format(1234) | '{:,.2f}'.format(12345.678) | '{:05}'.format('a') | '{:5}|'.format(n) | '{:5}|'.format(f) | '{}'.format(1e16) | '{:.0f}'.format(2.5) | '{:n}'.format(n) | '{:c}'.format(97) | '{:b}'.format(-5) | '{:08b}'.format(5) | '{:X}'.format(255) | '{:.3g}'.format(0.00012345) | '{:>{w}.{p}f}'.format(f, w=8, p=3) | '{:.2}'.format(1234.5) | '{:.5}'.format(3.0)
[1, 2, 3, 4, 5]|batch(2)|list | [1, 2, 3, 4, 5]|batch(2, '-')|list | [1, 2, 3, 4, 5]|slice(2)|list | [1, 2, 3, 4, 5]|slice(3, '-')|list | []|batch(2)|list | []|slice(2)|list | 'abc'|batch(2)|list | list|slice(4)|map('join')|join('|')
'one two_three four-five'|wordcount | s|wordcount | ''|wordcount | 'ab'|center(6) ~ '|' | 'abc'|center(6) ~ '|' | 'abc'|center|length | 'ab'.center(7, '*') | 'abc'.center(6, '*') | 'a'.ljust(3) ~ '|' | 'a'.rjust(3, '.') | '7'.zfill(3) | '-7'.zfill(4) | '+7'.zfill(1) | 'aB'.swapcase()
'foo bar baz qux'|truncate(9) | 'foo bar baz qux'|truncate(9, true) | 'foo bar baz qux'|truncate(11) | 'foo bar baz qux'|truncate(11, false, '...', 0) | 'foo bar'|truncate(5, end='-', leeway=0) | 'foobarbaz'|truncate(6, leeway=0) | 'x'|truncate
0xff | 0XFF | 0b101 | 0o17 | 0x_f | '0x1f'|int(0, 16) | '0b11'|int(0, 2) | '17'|int(0, 8) | 'zz'|int(5, 16) | '-ff'|int(base=16)
{1: 'a', 2: 'b'}[1] | {1: 'a'} | {1: 'a'}|tojson | {true: 1, none: 2, 1.5: 3}|tojson | {1: 'a'}.get(1) | {1: 'a'}.get('1') | {1: 'a'}[1.0] | {1: 'a'}[true] | 1 in {1: 'a'} | '1' in {1: 'a'} | {(1, 2): 'a'}[(1, 2)] | {1: 'a', true: 'b'} | {2: 'b', 1: 'a'}|dictsort | {1: 'a'}|items|list | {1: 'a'}.keys()|list | {2: 1}|list | {1: 2} == {1.0: 2} | {1: 'a'}[9] is defined
d.items is defined | d.keys is callable | d.get is defined | d.update is defined | {'items': 1}['items'] | {'items': 1}.items()|list | {'keys': 5}|length | d.pop is undefined
list|select('>', 1)|list | list|select('<=', 1)|list | 1 is sameas 1 | true is sameas 1 | true is sameas true | 2 is ge 1 | list|map('int')|select('>=', 3)|list | 1 is filter | 'upper' is filter | 'odd' is test
dict([('a', 1), ('b', 2)]) | dict({'a': 1}, b=2) | dict(d, a=5).a | dict({'a': 1}, **{'b': 3}) | dict(**{'x': 1}) | '{}-{}'.format(*[1, 2]) | range(*[1, 3])|list | [3, 1]|sort(**{'reverse': true})
s.find('l', 5) | s.find('l', -8) | s.count('l', 5) | s.count('l', 0, 5) | s.rfind('l', 0, 6) | 'abcabc'.index('b', 2) | 'abcabc'.find('c', 0, -2) | 'aXbX'.replace('X', '', 1)
vast | [vast] | vast|tojson | vast|string|length | vast == vast | vast > 5 | vast < 5 | 5 < vast | -5 > vast | vast is integer | vast is number | vast is odd | vast|int | vast|float | d8 | d8|tojson | low|abs == low | low | '%d' % vast | '{}'.format(vast) | '{:,}'.format(vast) | [vast, 1, low]|sort | [vast, 1]|max | vast in [vast] | {'a': vast}|tojson | vast ~ 'x' | 'y' if vast else 'n' | vast is sameas vast
'<a&b>'|e | '<a&b>'|forceescape | 1|string ~ 2 | 'a'|list | 'x'|first | []|first | 'abc'|last | {'a': 1}|first | none|string | true|int | 3.99|int | '1e3'|int | ' 42 '|int | none|int | none|int(5) | []|int | 'nan'|float|string | '1_0'|int | '0x1f'|int | ''|int
[1, [2, 3]]|tojson | 'é'|tojson | 1.0|tojson | 1e22|tojson | 100000000000000000000.0|tojson | 1e-7|tojson | none|tojson | {'b': 1, 'a': 2}|tojson(sort_keys=true) | [1]|tojson(indent=0) | [1]|tojson(none) | '</script>'|tojson | '\\u2028'|tojson
n is divisibleby(0) | s is sequence | none is sequence | n is iterable | missing is iterable | missing is sequence | {} is mapping | (1, 2) is sequence | 'a' is in 'abc' | 'a' is not in 'abc' | 5 is lower | 'aB' is lower | '' is lower | 1 is boolean | none is undefined
list|min(attribute='x') is defined | people|max(attribute='age') | people|max(attribute='name') | [3, 1, 3]|max | people|min(attribute='age') | people|map(attribute='home')|map(attribute='city')|list | people|unique(attribute='age')|list|length | people|groupby('age')|map('first')|list | people|sort(attribute='age,name')|map(attribute='name')|list | people|map(attribute='home.city')|first
people|selectattr('age', '>', 26)|map(attribute='name')|list | people|selectattr('name', 'in', ['Li', 'Bo'])|list|length | people|rejectattr('zz')|list|length | people|selectattr('zz', 'undefined')|list|length | people|join(', ', attribute='name') | [[1, 2], [3]]|sum(start=[]) | [1, 2]|sum(start=10)
'a,b'.split(',')|reverse|join | 'a b'.title() | "they're"|title | "they're".title() | 'ΑΣ'.lower() | 'İ'.lower()|length | '½'.isnumeric() | '²'.isdigit() | '٣'.isdecimal()
[[1, 2], [3, 4]]|map('sum')|list | ['a', 'b']|map('replace', 'a', 'x')|list | [1, 2, 3]|map('string')|map('center', 3)|join('|') | [3, 1]|map('float')|list | ['x', 'y']|map('upper')|first | [1, none]|map('default', 0, true)|list
0 is true | 1 is true | true is true | none is false | false is false | 1.5 is float | 1 is float | n is test | 2 is eq(2) | 3 is divisibleby 3
'%s' % missing | missing|string | missing|tojson | missing|int | missing|upper | missing in [1] | 1 in missing | missing|first | missing|join | missing|trim | missing ~ missing | [missing] | missing|default | missing is none | missing == none | not missing | missing|list|length | (missing or {}).x is defined
[1, 2, 3][-1:] | [1, 2, 3][:-1] | 'abc'[-2] | [1, 2, 3]|last | (1, 2, 3)|last | [][0] is defined | 'abc'[::2] | [1, 2, 3, 4][1::2] | [1][5:] | 'héllo'[1] | [1, 2][true] | list[1.0] is defined
1 if false | 'a' if missing else 'b' | (none or 'x')|upper | 'a' ~ none | [] or 'e' | {} or 'e' | 0 or 'e' | 0.0 or 'e' | '' or 'e' | not [] | 1 and 2 | 0 and 2 | 1 == 1.0 | '1' == 1 | none == false | [1] == (1,) | 1 != 2 | 'a' != 'b' | 1 <= 1.0 | true < 2
7 // 2.0 | 7 % 2.5 | -7 % 2.5 | 2 ** 0.5 | 2 ** 3.0 | -2 ** 2 | (-2) ** 2 | 1e308 * 10 | 7.0 // 2 | 5 - -3 | 10 / 4 | 2 ** 62 | 0.1 * 3 | 1 // 3 | -1 // 3 | 3 - 1.5 | true + true | 'a' * 0 | 'a' * -1 | [1] * true
range(3)|last | range(3)|length | range(10)[2] | range(1, 4)|sum | range(3)|join(',') | 2 in range(3) | range(0, 10, 5)|list | range(3)|reverse|list | range(3)|map('string')|list
'a\\tb'|e | 'a'|indent(4, true, true) | 'a\\n\\nb'|indent(width=2, first=true, blank=true) | 'a\\nb\\n'|indent | ''|indent(2, true) | 'ab'|replace('a', 1) | 'aaa'|replace('a', 'b', 2) | 123|replace('2', 'x') | 'ab'|trim('a') | ' a '|trim(' ') | 12|length is defined
"""

FAILING = """
missing.x | missing['x'] | missing() | missing + 1 | 'a' + 1 | 1 + none | [1] < 1 | 1 / 0 | 1 // 0 | 'a' < 1 | s.nothing() | d.update({'x': 1}) | list.append(4) | none|length | 5|list
'%d' % 'a' | '%z' % 1 | '%s' % () | '%s' % (1, 2) | '%(a)s' % 1 | '%(a)s' % {} | '%' % 1 | '%x' % 1.5 | '{:d}'.format('a') | '{:s}'.format(1) | '{'.format(1) | '}'.format(1) | '{a}'.format(1) | '{0}'.format() | '{:.2d}'.format(1) | '{:>5}'.format([1]) | 'a'.center('x') | {[1]: 2} | {{}: 1} | cycler() | 'a'|truncate(1)
'a'|random_thing | 'a' is random_thing | 'a'|bool | lipsum.nothing.at_all | {1: 2}.update({}) | [1].append(2) | dict(1) | dict([1]) | '7'.zfill() | 'a'|map('nothing')|list | [1, 'a']|sort | 'a'|round | {'a': namespace()}|tojson | range(3).append | range(0, 5, 0)
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
    "{% for x in [1, 1, 2, 2, 1] %}{{ x if loop.changed(x) else '-' }}{% endfor %}",
    "{% for x in [1, 1] %}{% for y in [1, 1] %}{{ loop.changed(x, y) }}{% endfor %}{% endfor %}",
    "{% for x in list %}{{ loop.changed(loop.first) }} {% endfor %}",
    "{% set c = cycler('a', 'b', 'c') %}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.next() }}",
    "{% set c = cycler('a', 'b') %}{% for x in list %}{{ c.next() }}{% endfor %}",
    "{% set j = joiner() %}{% for x in list %}{{ j() }}{{ x }}{% endfor %}",
    "{% set j = joiner('|') %}{{ j() }}a{{ j() }}b{{ j() }}",
    "{% for row in list|batch(2, 'x') %}{{ row|join(',') }};{% endfor %}",
    "{% for column in list|slice(2) %}{{ column }};{% endfor %}",
    "{% set x = {'a': {1: 'one'}} %}{{ x.a[1] }}",
    "{% for k, v in {1: 'a', 2: 'b'}.items() %}{{ k + 1 }}{{ v }}{% endfor %}",
    "{% macro m(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ m(*[1, 2]) }}{{ m(**{'a': 3, 'b': 4}) }}{{ m(5, **{'b': 6}) }}",
    "{% set ns = namespace(**{'a': 1}) %}{{ ns.a }}",
    "{% for m in messages %}{% if m.role is sameas 'user' %}u{% else %}o{% endif %}{% endfor %}",
    "{% if (messages|selectattr('role', 'equalto', 'user')|list)|length > 1 %}many{% endif %}",
    "{{ messages|map(attribute='role')|unique|join(',') }}",
    "{% set n = namespace(i=0) %}{% for m in messages if m.role == 'user' %}{% set n.i = n.i + 1 %}{% endfor %}{{ '%02d' % n.i }}",
    "{% for x in list %}{% if loop.index is divisibleby 2 %}{{ x }}{% endif %}{% endfor %}",
    "{% for i in range(3) %}{% for j in range(3) if j != i %}{{ i }}{{ j }} {% endfor %}{% endfor %}",
    "{%- for x in list %}{{ x }}{% if not loop.last %}, {% endif %}{%- endfor %}",
    "{% set a = 1 %}{% if true %}{% set a = 2 %}{% endif %}{{ a }}",
    "{% set a = 1 %}{% for x in [1] %}{% set a = 2 %}{% endfor %}{{ a }}",
    "{% with %}{% set z = 5 %}{{ z }}{% endwith %}{{ z is defined }}",
    "{% filter indent(2) %}a\nb{% endfilter %}",
    "{% set x %}{% for i in range(2) %}{{ i }}{% endfor %}{% endset %}{{ x|length }}",
    "{%- macro r(x, d) -%}{%- if d > 0 -%}<{{ r(x, d - 1) }}>{%- else -%}{{ x }}{%- endif -%}{%- endmacro -%}{{ r('a', 3) }}",
    "{{ loop is defined }}{% for x in [1] %}{{ loop is defined }}{% endfor %}",
    "{% for x in [1, 2] %}{% set y = x %}{% endfor %}{{ y is defined }}",
    "{% for (a, b) in [(1, 2)] %}{{ a }}{{ b }}{% endfor %}",
    "{% for k, (a, b) in [(1, (2, 3))] %}{{ k }}{{ a }}{{ b }}{% endfor %}",
    "{% set (a, b) = (1, 2) %}{{ a }}{{ b }}",
    "{{ 'a' if n == 7 and not no else 'b' }}{{ n if n is defined and n is number else 0 }}",
    "{{ not n is none }}{{ n is not none }}{{ not (n is none) }}",
    "{{ -n|abs }}{{ (-n)|abs }}{{ 2 * n|float }}",
    "{{ [1,2,3] | map('string') | join(', ') if list else 'none' }}",
    "{{ 'a' in 'abc' and 'z' not in 'abc' }}{{ 1 in [1] == true }}",
    "{% include 'x' %}",
    "{% extends 'x' %}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m() }}",
    "{% set (a, (b, c)), d = (1, (2, 3)), 4 %}{{ a }}{{ b }}{{ c }}{{ d }}",
    "{% set a, = [1] %}{{ a }}",
    "{% for x, in [[1], [2]] %}{{ x }}{% endfor %}",
    "{% set a, b = 1 %}",
    "{% call(x) list %}{% endcall %}",
    "{% if x %}",
    "{{ x",
    "{% endfor %}",
    "{% for x in list %}{% endif %}",
    "{{ 1 + }}",
    "{{ [1, 2 }}",
    "{% set 1 = 2 %}",
    "{% elif x %}",
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
        if line.startswith("#"):
            continue
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
