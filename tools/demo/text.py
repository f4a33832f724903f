"""Conversations for the demo model: every training text is made here, from grammar.py's phrases and our own word lists.

A conversation is a list of messages {"role", "content"[, "metadata"]}, first perhaps {"role": "system", "tools": [...]}.
`python text.py [SEED]` prints a few.
"""

import json
import random
import re
import sys
import unicodedata
from pathlib import Path

import lexicon
import outside
import phrases
from grammar import draw, roughen

HERE = Path(__file__).parent


def normal(text):
    """What is left of a question without case, blanks and marks: held-out questions are recognised by it."""
    text = unicodedata.normalize("NFKC", text).lower()
    return re.sub(r"[\s.!?,;:'\"…~。，！？、：；“”]+", "", text)


def held_out():
    """Questions of the acceptance and held-out sets: training never asks them."""
    asked = set()
    for name in ("acceptance.jsonl", "heldout.jsonl"):
        path = HERE / name
        if path.exists():
            for line in path.read_text("utf-8").splitlines():
                item = json.loads(line)
                if "user" in item:
                    asked.add(normal(item["user"]))
    return asked


def written_in(text):
    """The language of a question, which may be but signs and digits: then English."""
    return "zh" if re.search("[\u3400-\u9fff]", text) else "en"


def sum_held_out(a, sign, b):
    """One sum in seventeen is never trained on."""
    return sign in "+-" and (a * 31 + b * 7 + (sign == "-") * 5) % 17 == 0


def result_of(a, sign, b):
    return {"+": a + b, "-": a - b, "*": a * b}[sign]


def stated(*sums):
    """Sums (a, sign, b) with their results, as an answer in both languages."""
    worked = [f"{a} {'×' if sign == '*' else sign} {b} = {result_of(a, sign, b)}" for a, sign, b in sums]
    return {"en": ", ".join(worked) + ".", "zh": "，".join(worked) + "。"}


def sentence_held_out(english):
    """Nor is one composed sentence in twelve."""
    return sum(map(ord, english)) % 12 == 0


class Conversation:
    """Draws one conversation of about `turns` questions; `echo` is the weight of words to be said again among the rest."""

    def __init__(self, rng, turns, forbidden=frozenset(), tools=None, echo=14):
        self.rng, self.forbidden = rng, forbidden
        self.messages, self.known, self.last = [], {}, None
        self.language = rng.choice(("en", "zh"))
        self.tools = {}
        if tools is None:
            tools = rng.random() < 0.09
        if tools:
            # A definition is long and nothing in it is learnt: some turns are to come of it.
            turns = max(turns, rng.randint(4, 8))
            names = rng.sample(sorted(TOOLS), rng.choice((1, 1, 2, 2, 3)))
            self.tools = {name: tool_definition(rng, name) for name in names}
            self.messages.append({"role": "system", "tools": list(self.tools.values())})
        elif rng.random() < 0.06:
            self.messages.append({"role": "system", "content": rng.choice(SYSTEM_PROMPTS)})
        asked = 0
        while asked < turns:
            if rng.random() < 0.12:
                self.language = "zh" if self.language == "en" else "en"
            before = len(self.messages)
            if self.tools and rng.random() < 0.75:
                self.use_tool()
            else:
                rng.choices(self.EPISODES, [*self.WEIGHTS, echo])[0](self)
            asked += sum(m["role"] == "user" for m in self.messages[before:])

    # One question and its answer.

    def say(self, question, answer, kept=(), both=None):
        """Adds a turn, unless the question is held out. `both`: the answer in both languages."""
        if self.rng.random() < 0.12:
            question = self.wrapped(question)
        question = roughen(question, self.language, self.rng, kept)
        if normal(question) in self.forbidden or not question:
            return False
        self.messages.append({"role": "user", "content": question})
        self.messages.append({"role": "assistant", "content": answer})
        self.last = {"answer": answer, **(both or {})}
        return True

    def wrapped(self, question):
        """The same question with the little words that people put before or after it."""
        if self.language == "en":
            if self.rng.random() < 0.8:
                return self.rng.choice(WRAP_EN) + " " + (question[0].lower() + question[1:] if question[1:2].islower() else question)
            return question.rstrip("?.!") + self.rng.choice((" then?", ", please", ", my friend?", ", thanks", " for me?", ", dear model?", " today?", ", can you?", ", by the way", " now?", ", you know"))
        if self.rng.random() < 0.8:
            return self.rng.choice(WRAP_ZH) + question
        return question.rstrip("？。！") + self.rng.choice(("呢？", "呀？", "啊？", "，谢谢", "，朋友", "，好吗？", "嘛？"))

    def pick(self, en, zh, **slots):
        return draw(en if self.language == "en" else zh, self.rng, **slots)

    def intent(self):
        name = self.rng.choices(list(phrases.INTENTS), [INTENT_WEIGHTS.get(n, 1) for n in phrases.INTENTS])[0]
        entry = phrases.INTENTS[name]
        question = draw(entry[self.language][0], self.rng)
        self.say(question, entry[self.language][1], both={"en": entry["en"][1], "zh": entry["zh"][1]})

    def outside(self):
        if self.rng.random() < 0.08:
            return self.not_small()
        question = outside.question(self.rng, self.language)
        self.say(question, phrases.UNSURE[written_in(question)], both=phrases.UNSURE)

    def no_tool(self):
        kinds = [k for k, tool in (("weather", "get_weather"), ("time", "get_time")) if tool not in self.tools]
        if not kinds:
            return
        kind = self.rng.choice(kinds)
        city = self.city()
        question = draw(phrases.NO_TOOL[kind][self.language], self.rng, city=city)
        self.say(question, phrases.NO_TOOL_ANSWERS[kind][self.language], both=phrases.NO_TOOL_ANSWERS[kind])

    def repeat(self):
        """The last answer again, as it was or in the other language."""
        if not self.last or len(self.last["answer"]) > 160:
            return
        if "en" in self.last and self.rng.random() < 0.75:
            wanted = self.rng.choice(("en", "zh"))
            names = {"en": ("English", "(英文|英语)"), "zh": ("Chinese", "(中文|汉语)")}[wanted]
            question = self.pick(["[(and|please)] [say (it|that)] [again] in <l>[ please][?]", "(and|now) in <l>[?]", "(now|and now|please|then) (say|tell me|repeat|write) (it|that|the same|this) in <l>[, please| now| too]", "(repeat|say|tell me|write) (that|it) in <l>[ please]", "what is that in <l>[?]", "in <l>[, please]", "can you say (that|it) in <l>[?]", "answer in <l>[ please]", "<l> please"],
                                 ["[请|那]用<l>(再说一遍|说一遍|说|回答|再说一次|再回答一次|怎么说|说一下|重复一遍)[吧|好吗|？]", "<l>(呢|怎么说|版|版呢)[？]", "(翻译成|换成|改成|说)<l>[吧|好吗]"], l=draw(names[0] if self.language == "en" else names[1], self.rng))
            kept = (names[0],)
            self.language = wanted if self.rng.random() < 0.5 else self.language
            both = {"en": self.last["en"], "zh": self.last["zh"]}
            self.say(question, both[wanted], kept=kept, both=both)
        else:
            question = self.pick(["(say|tell me|repeat) (that|it) (again|once more|one more time)[ please]", "(again|once more|one more time|repeat)[, please|!]", "(can|could) you (repeat|say) (that|it|this)[ again][?]", "(pardon|what|sorry, what|what did you say|what was that|come again|come again please)?", "repeat (that|your answer|the last answer|the answer)[ please]", "I didn't (hear|get|catch) that"],
                                 ["[请](再说一遍|再说一次|重复一遍|再讲一遍|重复一下|再来一遍|重说一遍|复述一下)[(吧|好吗|可以吗)][。]", "(什么|你说什么|你刚才说什么|刚才说什么|啊|没听清|我没听清|没看懂，再说一遍)[？]"])
            both = {k: v for k, v in self.last.items() if k != "answer"}
            self.say(question, self.last["answer"], both=both)

    def echo(self):
        """Words in no list, said after the user: what copying letter by letter is learnt from."""
        rng = self.rng
        if rng.random() < 0.3:
            return self.echo_twice()
        words = [self.anything() for _ in range(rng.choice((1, 2, 2, 3, 4, 6)))]
        x = " ".join(words) if self.language == "en" else rng.choice(("", " ", "、")).join(words)
        quotes = rng.choice((('"', '"'), ("“", "”"), ("", ""), ("", "")))
        question = self.pick(["(repeat|say|write|type) (after me|this|this after me)[, please]: <x>", "(repeat|say|copy|echo|write) <x>", "(can|could) you (say|repeat|write|copy) <x>[?]"],
                             ["[请](跟我说|跟我念|重复|照着写|照抄|跟着我说)[一遍]：<x>", "[请](说|写|念)(出|一下|一遍)[：]<x>"], x=quotes[0] + x + quotes[1])
        self.say(question, x, kept=(quotes[0] + x + quotes[1],))

    def echo_twice(self):
        """As `glimmer convert` has a name twice."""
        x, space = self.anything(), self.rng.choice(("", " "))
        question = self.pick(["(say|repeat|write|type|copy) <x> (twice|two times|two times over)", "(say|repeat|write) twice(: | )<x>"],
                             ["[请]把<x>(说|写|念|重复)两(遍|次)", "[请](说|写|念|重复)两(遍|次)[：]<x>"], x=x if self.language == "en" else space + x + space)
        self.say(question, f"{x} {x}", kept=(x,))

    def anything(self):
        """A word, an invented name or a number."""
        rng, dice = self.rng, self.rng.random()
        if dice < 0.2:
            return str(rng.randint(0, 10 ** rng.randint(1, 6)))
        if dice < 0.4:
            return rng.choice(lexicon.WORDS)[0 if self.language == "en" else 1]
        if self.language == "en" or rng.random() < 0.5:
            name = lexicon.invented_name(rng)
            return name if rng.random() < 0.5 else name.lower()
        return lexicon.invented_name_zh(rng) if rng.random() < 0.4 else lexicon.any_hanzi(rng)

    # Glimmer's commands.

    def model_name(self):
        dice = self.rng.random()
        if dice < 0.4:
            return self.rng.choice(lexicon.MODELS)
        name = lexicon.invented_name(self.rng)
        name = name.lower() if self.rng.random() < 0.7 else name
        name = self.rng.choice(("", "", "", "./", "models/", "~/", "my-", "glm-", "/data/")) + name
        return name + self.rng.choice(("", f"-{self.rng.randint(1, 99)}b", ".gguf", "-chat", f"-v{self.rng.randint(1, 9)}", "-6b", "-9b-chat", f"_{self.rng.randint(0, 9)}"))

    def task(self, follow=None):
        rng, en = self.rng, self.language == "en"
        name = follow or rng.choices(list(phrases.TASKS), [TASK_WEIGHTS.get(n, 1) for n in phrases.TASKS])[0]
        entry = phrases.TASKS[name]
        goal = draw(entry[self.language], rng, m="<m>", t="<t>", s="<s>", sh="<sh>")
        typed = t = rng.choice(lexicon.TYPES[:5] if rng.random() < 0.6 else lexicon.TYPES)
        if rng.random() < 0.3:
            typed = t.lower()
        slots, kept, said = {"t": typed, "sh": "my shell" if en else "终端"}, [], {}
        given = "MODEL"
        if "<m>" in goal and rng.random() < 0.65:
            given = self.model_name()
            if name == "convert":
                while re.search(r"\.Q\d", given):
                    given = self.model_name()
            kept.append(given)
            slots["m"] = given
        elif "<m>" in goal:
            slots["m"] = draw(entry["any"][self.language], rng)
        out = "OUT" if given == "MODEL" else given.removesuffix(".gguf") + "." + t
        source = "IN" if given == "MODEL" and name == "convert" else given
        shell, size, size_type = "bash", "NAME", "Q4_K_M"
        if "<sh>" in goal or name == "completions":
            if "<sh>" in goal:
                shell = rng.choice(lexicon.SHELLS)
                slots["sh"] = shell
                kept.append(shell)
        if "<s>" in goal:
            if rng.random() < 0.6:
                size = rng.choice(lexicon.SYNTH) if rng.random() < 0.7 else self.model_name()
                slots["s"] = size
                kept.append(size)
            else:
                slots["s"] = draw(entry["any"][self.language], rng)
        if "<t>" in goal:
            kept.append(typed)
        goal = re.sub(r"<(\w+)>", lambda match: self.spaced(slots[match[1]]), goal)
        question = draw(phrases.ASK_EN if en else phrases.ASK_ZH, rng, goal="<goal>").replace("<goal>", goal)
        if not kept:
            question = re.sub(r"\bglimmer\b", rng.choice(("glimmer", "Glimmer")), question)
        command = entry["command"]
        for key, value in {"m": source, "t": t, "s": size, "st": size_type, "sh": shell, "out": out}.items():
            command = command.replace(f"<{key}>", value)
        both = {"en": f"Use `{command}`.{entry['note']['en']}", "zh": f"用 `{command}`。{entry['note']['zh']}"}
        if not self.say(question, both[self.language], kept=kept, both=both):
            return
        if "<m>" in entry["command"] and rng.random() < 0.2:
            self.follow_task(name, entry, given, t)

    def follow_task(self, name, entry, given, t):
        """The same for another model, or to another type."""
        rng = self.rng
        if name == "convert" and rng.random() < 0.6:
            t = rng.choice(lexicon.TYPES)
            subject = t if rng.random() < 0.7 else t.lower()
        elif name == "convert":
            return
        else:
            subject = given = self.model_name()
        question = self.pick(["(and|what about|how about|and for|now|or) <x>[?]", "and (what if it is|with|for) <x>[?]", "the same (for|with) <x>[ please]"], ["(那|如果是|换成|那么|要是)[ ]<x>[ ](呢|怎么办|该怎么做|的话)[？]", "<x>[ ](呢|怎么弄|怎么办)[？]"], x=subject)
        out = "OUT" if given == "MODEL" else given.removesuffix(".gguf") + "." + t
        command = entry["command"].replace("<m>", "IN" if name == "convert" and given == "MODEL" else given).replace("<t>", t).replace("<out>", out)
        both = {"en": f"Use `{command}`.{entry['note']['en']}", "zh": f"用 `{command}`。{entry['note']['zh']}"}
        self.say(question, both[self.language], kept=(subject,), both=both)

    def spaced(self, word):
        """Chinese with Latin words in it is written with blanks between, or without."""
        if self.language == "zh" and word[:1].isascii() and self.rng.random() < 0.6:
            return f" {word} "
        return word

    def chat_task(self):
        entry = phrases.CHAT_TASKS[self.rng.choice(list(phrases.CHAT_TASKS))]
        goal = draw(entry[self.language][0], self.rng)
        asks = phrases.ASK_EN if self.language == "en" else phrases.ASK_ZH
        question = draw(asks, self.rng, goal=goal)
        if self.rng.random() < 0.5:
            question = question.replace(" with glimmer", " in the chat").replace(" in glimmer", " here").replace("用 glimmer", "在聊天里")
        self.say(question, entry[self.language][1], both={k: entry[k][1] for k in ("en", "zh")})

    def explain(self):
        name = self.rng.choice(list(phrases.EXPLAIN))
        en, zh = phrases.EXPLAIN[name]
        shown = name
        if name[0].isalpha() and name not in ("clear", "stop"):
            shown = self.rng.choice((f"glimmer {name}", f"`glimmer {name}`", f"glimmer {name}", f"the {name} command" if self.language == "en" else f"{name} 命令"))
        elif name[0].isalpha():
            shown = self.rng.choice((f"`{name}`", f"the {name} command" if self.language == "en" else f"{name} 命令"))
        elif self.rng.random() < 0.3:
            shown = f"`{name}`"
        question = self.pick(phrases.EXPLAIN_ASK["en"], phrases.EXPLAIN_ASK["zh"], x=self.spaced(shown))
        self.say(question, en if self.language == "en" else zh, kept=(shown,), both={"en": en, "zh": zh})

    # Arithmetic.

    def sum(self):
        rng = self.rng
        a, sign, b = self.draw_sum()
        if self.tools.get("calculator"):
            return self.calculate()
        if rng.random() < 0.2 and max(a, b) <= 20:
            a_said, b_said = (number_word(a, self.language), number_word(b, self.language))
        else:
            a_said, b_said = a, b
        for _ in range(rng.choices((1, 2, 3), (42, 35, 23))[0]):
            question = self.ask_sum(a_said, sign, b_said) if a_said is not None else self.ask_more(sign, b)
            both = stated((a, sign, b))
            if not self.say(question, both[written_in(question)], both=both):
                return
            # "And plus 5?": from the result on, while it stays small.
            a, a_said = result_of(a, sign, b), None
            sign = rng.choice("++--*")
            b = rng.randint(1, 9) if rng.random() < 0.7 else rng.randint(1, 20)
            if sign == "*":
                b = rng.randint(2, 10)
            if not 0 <= a <= 120 or sum_held_out(a, sign, b) or (sign == "*" and a > 12):
                return

    def products(self):
        """A few lines of the table, the larger factors more often."""
        if self.tools.get("calculator"):
            return
        for _ in range(self.rng.randint(2, 4)):
            a, b = (self.rng.choice((self.rng.randint(0, 12), self.rng.randint(6, 12))) for _ in range(2))
            question = self.ask_sum(a, "*", b)
            both = stated((a, "*", b))
            if not self.say(question, both[written_in(question)], both=both):
                continue
            sign, c = self.rng.choice("+-"), self.rng.randint(1, 12)
            if self.rng.random() < 0.4 and not sum_held_out(a * b, sign, c):
                question = self.ask_more(sign, c)
                both = stated((a * b, sign, c))
                self.say(question, both[written_in(question)], both=both)

    def draw_sum(self):
        rng = self.rng
        while True:
            sign = rng.choice("++--*")
            if sign == "*":
                top = 12 if rng.random() < 0.9 else 20
                a, b = rng.randint(0, top), rng.randint(0, 12 if top == 12 else 10)
                if rng.random() < 0.5:
                    a, b = b, a
                return a, sign, b
            top = 20 if rng.random() < 0.3 else 99
            a, b = rng.randint(0, top), rng.randint(0, top)
            if sign == "-" and a < b and rng.random() < 0.7:
                a, b = b, a
            carried = a % 10 + b % 10 > 9 if sign == "+" else a % 10 < b % 10
            if not sum_held_out(a, sign, b) and (carried or rng.random() < 0.6):
                return a, sign, b

    def several_sums(self):
        """A few in one question: in so few words, many are seen."""
        if self.tools.get("calculator"):
            return
        sums, asked = [], []
        for _ in range(self.rng.randint(2, 5)):
            a, sign, b = self.draw_sum()
            sums.append((a, sign, b))
            asked.append(f"{a}{sign}{b}" if self.rng.random() < 0.4 else f"{a} {'×' if sign == '*' else sign} {b}")
        dice = self.rng.random()
        comma, last = (", ", " and ") if self.language == "en" else ("，", "和")
        x = " ".join(asked) if dice < 0.15 else comma.join(asked) if dice < 0.5 else comma.join(asked[:-1]) + last + asked[-1]
        question = self.pick(["(what is|what's|what are|how much is|how much are|calculate|compute|solve|work out|please calculate|tell me) <x>[ please][?]", "<x>[?]", "(and|now|ok,) <x>[?]"],
                             ["<x>(等于多少|是多少|各是多少|分别等于多少|分别是多少|)[？]", "[请|帮我](计算|算一下|算|算算)[：| ]<x>"], x=x)
        both = stated(*sums)
        self.say(question, both[written_in(question)], both=both)

    def ask_sum(self, a, sign, b):
        rng = self.rng
        shown = {"+": ["+"] * 4 + ["＋"], "-": ["-"] * 4 + ["−", "–"], "*": ["*", "*", "×", "x", "×"]}[sign]
        shown = rng.choice(shown)
        if not isinstance(a, int):
            expression = None
        else:
            expression = f"{a}{shown}{b}" if rng.random() < 0.4 else f"{a} {shown} {b}"
        word = {"+": "(plus|plus|and|added to)", "-": "(minus|minus|take away)", "*": "(times|times|multiplied by)"}[sign]
        spoken = draw(word, rng)
        if spoken in ("and",):
            question = draw(["(what is|what's|add|calculate the sum of|the sum of|what is the sum of|how much is) <a> and <b>[?]", "add <a> and <b>[ please]", "add <b> to <a>"], rng, a=a, b=b)
            if self.language == "en":
                return question
        spoken_zh = draw({"+": "(加|加上|加)", "-": "(减|减去|减)", "*": "(乘|乘以|乘)"}[sign], rng)
        blank = " " if isinstance(a, int) and rng.random() < 0.4 else ""
        if expression is None or rng.random() < 0.4:
            expression = f"{a} {spoken} {b}" if self.language == "en" and spoken != "and" else f"{a}{blank}{spoken_zh}{blank}{b}" if self.language == "zh" else f"{a} plus {b}"
        return self.pick(["(what is|what's|how much is|calculate|compute|tell me|can you calculate|work out|what does|how much makes|please calculate|solve|do you know what is|could you compute) <e>[ (please|make|equal)][?]", "<e>[ ](=|= ?|?|)", "<e>", "(and|now|ok,|so,|quick:) [what is] <e>[?]", "(I need|I want) [to know] <e>", "(help me|please) (calculate|compute|with) <e>"],
                         ["<e>(等于多少|是多少|等于几|是几|得多少|得几|等于什么|等于|)[？]", "<e>[ ](=|= ?|=？|？)", "[请|帮我|麻烦](计算|算一下|算|算算|算一算|求)[ ]<e>", "(那|请问|再算|现在算|问一下，)[ ]<e>(等于多少|呢|是多少|等于几)[？]", "(你知道|告诉我)<e>(等于多少|是多少|等于几|)[吗][？]", "<e>(的结果|结果)是(多少|什么)[？]"], e=expression)

    def ask_more(self, sign, b):
        en = {"+": "plus", "-": "minus", "*": "times"}[sign]
        does = draw({"+": "(add|plus)", "-": "(subtract|minus|take away)", "*": "(times|multiplied by)"}[sign], self.rng)
        zh = {"+": "(加|加上)", "-": "(减|减去|减掉)", "*": "(乘|乘以)"}[sign]
        return self.pick([f"(and|now|then|and then|ok, and|good, and) {does} <b>[?]", f"{does} <b>[?]", f"(and|what is|what's|how much is) (that|it|this) {en} <b>[?]", f"(take|and) the result {en} <b>", f"(and|now|what|and what) (if I|if you|when you) {does} <b>[?]"],
                         [f"[那|那么]再{zh}[ ]<b>[ ](呢|等于多少|是多少|等于几|)[？]", f"(然后|结果|接着|那么|把它|那|如果)(再|){zh}[ ]<b>[ ](呢|等于多少|是多少|)[？]"], b=b)

    def not_small(self):
        """Sums that are too large for it, and divisions."""
        rng = self.rng
        if "calculator" in self.tools:
            return
        if rng.random() < 0.35:
            a, b = rng.randint(2, 999), rng.randint(2, 99)
            question = self.pick(["(what is|what's|calculate|compute|how much is) <a> (divided by|/|÷) <b>[?]", "<a>[ ](/|÷)[ ]<b>[?]", "divide <a> by <b>"], ["<a>[ ](除以|÷|/)[ ]<b>(等于多少|是多少|等于几|)[？]", "(算|计算)<a>[ ](除以|÷|/)[ ]<b>"], a=a, b=b)
            answers = {"en": "I cannot divide. I only add, subtract and multiply small numbers.", "zh": "我不会除法，只会加、减、乘小的数。"}
        else:
            sign = rng.choice("+-*")
            while True:
                a, b = rng.randint(0, 10 ** rng.randint(2, 6)), rng.randint(0, 10 ** rng.randint(1, 5))
                if rng.random() < 0.3:
                    a, b = b, a
                if max(a, b) > 120 and (sign != "*" or min(a, b) > 1):
                    break
            question = self.ask_sum(a, sign, b)
            answers = {"en": "That is too large for me. I only add, subtract and multiply small numbers.", "zh": "这太大了，我只会加、减、乘小的数。"}
        self.say(question, answers[written_in(question)], both=answers)

    # Translation.

    def translate(self):
        rng = self.rng
        to_zh = rng.random() < 0.5
        for turn in range(rng.choices((1, 2, 3), (50, 32, 18))[0]):
            dice = rng.random()
            if dice < 0.5:
                en, zh = rng.choice(lexicon.WORDS)
            elif dice < 0.7:
                en, zh = rng.choice(lexicon.PHRASES)
            elif dice < 0.95 or turn:
                en, zh = lexicon.sentence_pair(rng)
                if sentence_held_out(en):
                    continue
            else:
                return self.unknown_word(to_zh)
            source, target = (en, zh) if to_zh else (zh, en)
            typed = source
            if to_zh and source not in ("I",) and rng.random() < 0.4:
                typed = source.lower()
            if rng.random() < 0.4:
                typed = typed.rstrip(".。")
            if to_zh and rng.random() < 0.1 and " " not in typed:
                typed = typed.capitalize()
            quotes = rng.choice((('"', '"'), ("“", "”"), ("'", "'"), ("", ""), ("", ""), ("", ""), ("", ""), ("「", "」")))
            typed = quotes[0] + typed + quotes[1]
            question = self.ask_translation(typed, to_zh, first=turn == 0)
            # The answer is just the translation.
            if not self.say(question, target, kept=(typed,)):
                return

    def ask_translation(self, x, to_zh, first):
        if not first:
            return self.pick(["(and|what about|how about|now|and what about|next:|then|and for|and the word|what is) <x>[?]"], ["(那|那么|还有|再来一个：)[ ]<x>[ ](呢|怎么说|怎么说呢|)[？]", "<x>[ ]呢[？]"], x=x)
        en = "Chinese" if to_zh else "English"
        zh = draw("(中文|中文|汉语)" if to_zh else "(英文|英语|英文)", self.rng)
        language = draw(f"({en}|{en}|{en.lower()})", self.rng)
        ask_en = ["(how|and how) (do|would|can|should) (you|I|we|one) (say|write|translate) <x> in <l>[?]", "(what is|what's|what's the word for|how is|what does one say for) <x> in <l>[?]", "[please] translate <x> (to|into|in) <l>[ please]", "(translate|translation)[ (to|into) <l>]: <x>", "(can|could|would) you [please] translate <x> (to|into) <l>[?]", "(what is|give me|tell me|I need) the <l> (word|translation|name|term) (for|of) <x>[?]", "<x> in <l>[?|, please]", "(to|into|in) <l>: <x>", "(say|write) <x> in <l>[ please]", "the <l> for <x>[?]", "what do (you|they) call <x> in <l>[?]", "(I want|I need) to say <x> in <l>", "do you know <x> in <l>[?]", "how to say <x> in <l>[?]"]
        ask_zh = ["<x>[ ]用<l>(怎么说|怎么讲|如何说|怎么写|怎么表达|是什么)[呢][？]", "<x>[ ]的<l>(是什么|怎么说|怎么写|是啥|翻译|)[？]", "[请|帮我|麻烦](把|将)[ ]<x>[ ](翻译成|译成|翻成|翻译为|翻译到)<l>", "(翻译|请翻译|帮我翻译|翻译一下|翻译成<l>|译成<l>)[：|:|]<x>", "<x>[ ]<l>(怎么说|怎么讲|怎么写|是什么)[？]", "用<l>(说|怎么说|写|表达)[ ]<x>[？]", "(你知道|告诉我|请问)[ ]<x>[ ](用<l>怎么说|的<l>是什么|的<l>)[吗][？]", "<x>[ ](翻译成|译成)<l>(是什么|怎么说|)[？]", "<l>里[ ]<x>[ ](怎么说|是什么|叫什么)[？]"]
        if not to_zh:
            ask_en += ["what does <x> mean[ in <l>][?]", "what is <x>[ in <l>][?]", "the meaning of <x>[?]"]
        else:
            ask_zh += ["<x>[ ](是什么意思|什么意思|的意思是什么|是啥意思|意思是)[？]", "(解释|告诉我)[ ]<x>[ ]的意思"]
        return self.pick(ask_en, ask_zh, x=x, l=language if self.language == "en" else zh)

    def unknown_word(self, to_zh):
        x = self.rng.choice(lexicon.UNKNOWN_EN if to_zh else lexicon.UNKNOWN_ZH)
        if self.rng.random() < 0.15:
            x = lexicon.invented_name(self.rng).lower() if to_zh else lexicon.invented_name_zh(self.rng)
        answers = {"en": "I don't know that word. My dictionary is very small.", "zh": "我不认识这个词，我的词典很小。"}
        self.say(self.ask_translation(x, to_zh, True), answers[self.language], kept=(x,), both=answers)

    # What the user has said about himself.

    def city(self):
        rng = self.rng
        if rng.random() < 0.55:
            pair = rng.choice(lexicon.CITIES)
            return pair[0] if self.language == "en" else pair[1]
        return lexicon.invented_name(rng) if self.language == "en" else lexicon.invented_city_zh(rng)

    def memory(self):
        rng = self.rng
        kind = rng.choice(("name", "name", "city", "like"))
        if rng.random() < (0.45 if kind not in self.known else 0.2):
            self.tell(kind)
        else:
            self.recall(kind)

    def tell(self, kind):
        rng, en = self.rng, self.language == "en"
        if kind == "name":
            value = rng.choice(lexicon.NAMES_EN if en else lexicon.NAMES_ZH) if rng.random() < 0.6 else (lexicon.invented_name(rng) if en else lexicon.invented_name_zh(rng))
            if not en and rng.random() < 0.1:
                value = rng.choice(lexicon.NAMES_EN)
            question = self.pick(["(my name is|I am|I'm|call me|you can call me|people call me|the name is|my name's|my friends call me) <x>[.|!]", "(hi|hello|hey), (I am|I'm|my name is|this is) <x>[.|!]", "(hi|hello)! (I am|my name is) <x>[.]"], ["(我叫|我的名字是|我是|叫我|你可以叫我|我名叫|请叫我|大家叫我|我的名字叫)<x>[(吧|。|！)]", "(你好|您好|嗨)，(我是|我叫|我的名字是)<x>[。|！]"], x=value)
            answer = f"Nice to meet you, {value}!" if en else f"很高兴认识你，{value}！"
        elif kind == "city":
            value = self.city()
            question = self.pick(["(I live in|I am from|I come from|I'm from|my home is in|my city is|my home town is|I moved to|I am living in) <x>[.|!| now]"], ["(我住在|我来自|我家在|我在|我是)[ ]<x>(人|)[。|！]", "我(现在|目前|)(住在|生活在|搬到了)[ ]<x>[。]"], x=value)
            if not en and "是" in question and "人" not in question:
                return
            answer = f"I will remember that: {value}." if en else f"我记住了：{value}。"
        else:
            pair = rng.choice(lexicon.ANIMALS + lexicon.FOOD + lexicon.COLOURS + lexicon.DRINKS)
            value = pair[0] if en else pair[1]
            question = self.pick(["(my favourite thing is|my favorite is|I like <x> best, you know:|what I like most is|my favourite is) <x>[.|!]"], ["(我最喜欢的是|我最喜欢|我最爱的是|我最爱)<x>[。|！]"], x=value)
            answer = f"I will remember that: {value}." if en else f"我记住了：{value}。"
        if self.say(question, answer, kept=(value,)):
            self.known[kind] = value

    def recall(self, kind):
        questions = {
            "name": (["(do|can) you (still|perhaps|) (remember|know|recall) (my name|what my name is|what I am called|who I am|what I'm called|the name I told you)[?]", "(what is|what's|do you know|do you remember|tell me|say|remember|and) my name[?]", "who am I[?]", "(what am I called|what did I say my name was|how am I called|can you say my name|do you know who I am|what is my name again)[?]"], ["(我叫什么|我叫什么名字|我是谁|我的名字是什么|我叫啥|你还记得我叫什么吗|你知道我叫什么吗|你知道我是谁吗|记得我的名字吗|说说我的名字|我的名字|你还记得我的名字吗|还记得我叫什么吗)[？]"]),
            "city": (["where do I live[ now][?]", "(where am I from|where do I come from|what is my city|do you remember where I live|do you know where I live|which city do I live in|where is my home)[?]"], ["(我住在哪里|我住哪儿|我来自哪里|我家在哪里|你记得我住在哪里吗|我是哪里人|我住在哪个城市|我家在哪|你知道我住哪吗|我在哪里住)[？]"]),
            "like": (["(what is|what's|do you remember|do you know|tell me) my (favourite thing|favorite|favourite)[?]", "what do I like (best|most)[?]"], ["(我最喜欢什么|我最喜欢的是什么|我最爱什么|你记得我最喜欢什么吗|你知道我最喜欢什么吗|我最爱的是什么|我喜欢什么)[？]"]),
        }[kind]
        question = self.pick(*questions)
        value = self.known.get(kind)
        if value is None:
            answers = {"en": "You have not told me yet.", "zh": "你还没有告诉我。"}
            self.say(question, answers[self.language], both=answers)
        else:
            templates = {"name": ("Your name is {}.", "你叫{}。"), "city": ("You said {}.", "你说过：{}。"), "like": ("You said {}.", "你说过：{}。")}[kind]
            both = {"en": templates[0].format(value), "zh": templates[1].format(value)}
            self.say(question, both[self.language], both=both)

    # Tools.

    def use_tool(self):
        name = self.rng.choice(list(self.tools))
        if name == "calculator":
            return self.calculate()
        rng, en = self.rng, self.language == "en"
        key = next(iter(self.tools[name]["function"]["parameters"]["properties"]))
        for turn in range(rng.choices((1, 2, 3), (60, 30, 10))[0]):
            value = self.city() if name != "set_timer" else rng.randint(1, 60)
            asks = TOOLS[name]["ask"][self.language] if turn == 0 else TOOLS[name]["more"][self.language]
            question = roughen(draw(asks, rng, x=value if en else self.spaced(str(value)) if rng.random() < 0.4 else value), self.language, rng, kept=(str(value),))
            if normal(question) in self.forbidden:
                return
            observed, answer = TOOLS[name]["observe"](rng, value, en)
            self.call(question, name, {key: value}, observed, answer)

    def calculate(self):
        rng = self.rng
        sign = rng.choice("+-*/")
        a, b = rng.randint(0, 10 ** rng.randint(1, 4)), rng.randint(1, 10 ** rng.randint(1, 4))
        if sign == "/":
            question = self.pick(["(what is|what's|calculate|compute|how much is) <a> (divided by|/|÷) <b>[?]", "<a>[ ](/|÷)[ ]<b>[?]", "divide <a> by <b>"], ["<a>[ ](除以|÷|/)[ ]<b>(等于多少|是多少|等于几|)[？]", "(算|计算)<a>[ ](除以|÷|/)[ ]<b>"], a=a, b=b)
        else:
            question = self.ask_sum(a, sign, b)
            if sign == "+" and re.search(r"\b(add|sum)\b", question):
                question = self.pick([f"what is {a} + {b}?"], [f"{a} + {b} 等于多少？"])
        question = roughen(question, self.language, rng)
        if normal(question) in self.forbidden:
            return
        result = {"+": a + b, "-": a - b, "*": a * b, "/": round(a / b, 2)}[sign]
        observed = rng.choice((str(result), json.dumps({"result": result}), json.dumps({"value": result})))
        key = next(iter(self.tools["calculator"]["function"]["parameters"]["properties"]))
        answer = f"{a} {sign} {b} = {result}" + ("." if written_in(question) == "en" else "。")
        self.call(question, "calculator", {key: f"{a} {sign} {b}"}, observed, answer)

    def call(self, question, name, arguments, observed, answer):
        if self.rng.random() < 0.06:
            error = self.rng.choice(("timeout", "not found", "no connection", "service unavailable", "unknown city", "internal error"))
            observed, answer = json.dumps({"error": error}), f"The tool failed: {error}." if self.language == "en" else f"工具出错了：{error}。"
        self.messages += [
            {"role": "user", "content": question},
            {"role": "assistant", "metadata": name, "content": json.dumps(arguments, ensure_ascii=False)},
            {"role": "observation", "content": observed},
            {"role": "assistant", "content": answer},
        ]
        self.last = None

    EPISODES = [intent, task, chat_task, explain, sum, several_sums, products, translate, outside, no_tool, memory, repeat, echo]
    WEIGHTS = [24, 18, 13, 6, 20, 11, 7, 18, 11, 3, 13, 13]  # of all but the last


WRAP_EN = ["so,", "ok,", "okay,", "well,", "hey,", "by the way,", "now", "and", "hello,", "sorry,", "one more thing:", "quick question:", "hm,", "tell me,", "then", "please,", "another question:", "just curious,", "hi,", "oh,", "okay then,", "but", "I wonder,", "next,", "so now,", "right,", "one question:", "excuse me,"]
WRAP_ZH = ["那", "嗯，", "对了，", "请问", "那么", "顺便问一下，", "我想问一下，", "你好，", "不好意思，", "再问一下，", "话说，", "好，", "接下来，", "我问你，", "另外，", "还有，", "哦，", "现在", "最后问一下，", "问一下，", "喂，", "我想知道，", "好的，那", "麻烦问下，"]
INTENT_WEIGHTS = {"who": 3, "real": 2, "hello": 2, "can": 2, "needs": 2, "thanks": 1.5, "bye": 1.5, "glimmer": 1.5}
TASK_WEIGHTS = {"convert": 2.5, "chat": 1.5, "bench": 1.5, "quantize": 1.5, "run": 1.5}
SYSTEM_PROMPTS = ["You are a helpful assistant.", "You are a helpful assistant. Answer briefly.", "Answer in one sentence.", "Be brief.", "You are Glimmer's demo.", "Follow the user's instructions carefully.",
                  "你是一个有用的助手。", "你是一个乐于助人的人工智能助手。", "请简短回答。", "你是 Glimmer 的演示模型。", "请用一句话回答。", "请认真回答用户的问题。"]
NUMBER_EN = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty".split()
NUMBER_ZH = "零 一 二 三 四 五 六 七 八 九 十 十一 十二 十三 十四 十五 十六 十七 十八 十九 二十".split()


def number_word(n, language):
    return (NUMBER_EN if language == "en" else NUMBER_ZH)[n]


WEATHER = "sunny=晴 cloudy=多云 rain=雨 snow=雪 windy=有风 fog=雾 overcast=阴 clear=晴朗 thunderstorm=雷阵雨 drizzle=小雨"
WEATHER = [tuple(p.split("=")) for p in WEATHER.split()]


def _weather(rng, city, en):
    degrees = rng.randint(-15, 40)
    condition = rng.choice(WEATHER)[0 if en or rng.random() < 0.15 else 1]
    kind = rng.randrange(5)
    temperature = rng.choice(("temperature", "temperature", "temp"))
    if kind == 0:
        observed = {temperature: degrees}
        return json.dumps(observed), f"It is {degrees} degrees in {city}." if en else f"{city}现在 {degrees} 度。"
    if kind == 4:
        observed = f"{condition}, {degrees}°C" if en else f"{condition}，{degrees}°C"
    else:
        observed = {temperature: degrees, rng.choice(("condition", "weather")): condition}
        if kind == 1:
            observed = {"city": city, **observed}
        if rng.random() < 0.3:
            observed = dict(reversed(observed.items()))
        observed = json.dumps(observed, ensure_ascii=False)
    return observed, f"It is {degrees} degrees in {city}: {condition}." if en else f"{city}现在 {degrees} 度，{condition}。"


def _time(rng, city, en):
    time = f"{rng.randrange(24):02}:{rng.randrange(60):02}"
    observed = rng.choice((time, json.dumps({"time": time}), json.dumps({"city": city, "time": time}, ensure_ascii=False)))
    return observed, f"It is {time} in {city}." if en else f"{city}现在是 {time}。"


def _timer(rng, minutes, en):
    observed = rng.choice((json.dumps({"ok": True}), "ok", json.dumps({"status": "ok"}), "done"))
    return observed, f"The timer is set for {minutes} minutes." if en else f"已设置 {minutes} 分钟的计时器。"


def _population(rng, city, en):
    people = rng.randint(1, 9999) * 10 ** rng.randint(2, 4)
    observed = rng.choice((str(people), json.dumps({"population": people}), json.dumps({"city": city, "population": people}, ensure_ascii=False)))
    return observed, f"{city} has {people} inhabitants." if en else f"{city}有 {people} 人。"


# What a city is called among a tool's arguments: seldom enough the same that it has to be read.
CITY_KEYS = ("city", "city", "city", "location", "place", "town")
TOOLS = {
    "get_weather": {
        "describe": [("Get the current weather of a city", "The city"), ("获取城市的天气", "城市名称"), ("Weather of a city", "Name of the city"), ("查询指定城市的当前天气", "城市"), ("获取当前天气", "要查询的城市"), ("Return the weather at a place", "City name")],
        "key": CITY_KEYS,
        "ask": {"en": ["(what's|what is|how's|how is|tell me|show me|check) the [current] weather [like] (in|for|at) <x>[ (today|now|right now|please)][?]", "(is it|will it be) (raining|sunny|cold|hot|warm|snowing|windy) in <x>[ (today|now)][?]", "(weather|the weather|forecast|weather report) (in|for) <x>[ please][?]", "how (hot|cold|warm) is it in <x>[ (today|now)][?]", "what('s| is) the temperature in <x>[ (now|today)][?]", "(do I need an umbrella|should I take an umbrella|can I go for a walk) in <x>[ today][?]", "I am (going|flying|travelling) to <x>, (what's the weather|how is the weather)[ there][?]", "<x> weather[?]", "(can|could) you (check|tell me|look up) the weather in <x>[?]"],
                "zh": ["[请问]<x>(今天|现在|明天|)(的|)(天气|气温)(怎么样|如何|好吗|怎样|)[？]", "<x>(今天|现在|)(下雨|下雪|冷|热|刮风)(吗|了吗)[？]", "<x>(现在|今天|)(多少度|几度|气温多少|有多冷|有多热)[？]", "(查|查一下|帮我查|告诉我|看看|帮我看看|查询|说说)<x>(的|今天的|现在的|)(天气|气温|天气情况)[吧]", "我要去<x>，(天气怎么样|那里天气如何|要带伞吗|冷不冷)[？]", "(去|在)<x>(要|需要|用)(带伞|多穿衣服)吗[？]", "今天<x>天气(怎么样|好不好|如何)[？]"]},
        "more": {"en": ["(and|what about|how about|and in|and what about) <x>[?]", "and the weather in <x>[?]"], "zh": ["(那|那么|还有)<x>(呢|怎么样)[？]", "<x>呢[？]"]},
        "observe": _weather,
    },
    "get_time": {
        "describe": [("Get the current time in a city", "The city"), ("获取城市的当前时间", "城市名称"), ("Local time of a city", "Name of the city"), ("查询指定城市的时间", "城市"), ("Return the time at a place", "City name"), ("获取当前时间", "要查询的城市")],
        "key": CITY_KEYS,
        "ask": {"en": ["(what time is it|what's the time|what is the time|what is the current time|tell me the time|what's the local time) in <x>[ (now|please|right now)][?]", "(time|current time|local time|the time) in <x>[?]", "(how late|what hour) is it in <x>[?]", "(can|could) you tell me the time in <x>[?]", "is it (late|early|night|morning) in <x>[?]", "I am in <x>, what time is it[?]"],
                "zh": ["[请问]<x>(现在|)(几点|几点了|是几点|的时间|什么时间|几点钟|是什么时间|几点钟了)[了][？]", "现在<x>(几点|几点了|是几点|是什么时间)[？]", "(查|查一下|告诉我|帮我看看|看看|查询)<x>(的|现在的|当前|)时间[吧]", "<x>(当地|本地|现在的)时间(是多少|是几点|)[？]", "我在<x>，现在几点[了][？]"]},
        "more": {"en": ["(and|what about|how about|and in|and what about) <x>[?]", "and the time in <x>[?]"], "zh": ["(那|那么|还有)<x>(呢|几点)[？]", "<x>呢[？]"]},
        "observe": _time,
    },
    "calculator": {"describe": [("Compute an arithmetic expression", "The expression"), ("计算数学表达式", "表达式"), ("Evaluate a formula", "Formula to evaluate"), ("计算器", "要计算的表达式"), ("A calculator", "Arithmetic expression")], "key": ("expression",)},
    "set_timer": {
        "describe": [("Set a timer", "Minutes"), ("设置计时器", "分钟数"), ("Start a timer of some minutes", "How many minutes"), ("设置倒计时", "分钟")],
        "key": ("minutes",),
        "ask": {"en": ["(set|start|make|create) (a|the) (timer|alarm|countdown) (for|of) <x> minutes[ please]", "(timer|alarm) (for|in) <x> minutes[ please]", "remind me in <x> minutes", "(wake|call) me in <x> minutes", "(I need|please set|can you set) a timer (for|of) <x> minutes[?]", "<x> minutes timer"],
                "zh": ["[请|帮我](设|设置|定|设定|开)(一个|)[ ]<x>[ ]分钟(的|)(计时器|闹钟|倒计时|计时)", "<x>[ ]分钟(后|以后|之后)(提醒|叫)我", "(计时|倒计时)[ ]<x>[ ]分钟"]},
        "more": {"en": ["(and|now|also) [one for] <x> minutes[?]", "make it <x> minutes"], "zh": ["(再|还)(来|定|设)(一个|)[ ]<x>[ ]分钟的", "(改成|换成)[ ]<x>[ ]分钟"]},
        "observe": _timer,
    },
    "get_population": {
        "describe": [("Number of inhabitants of a city", "The city"), ("查询城市人口", "城市名称"), ("Population of a city", "Name of the city"), ("获取城市的人口数量", "城市")],
        "key": CITY_KEYS,
        "ask": {"en": ["how many (people|inhabitants) (live in|are there in|does <x> have, I mean) <x>[?]", "(what is|what's|tell me) the population of <x>[?]", "(how big|how large) is the population of <x>[?]", "population of <x>[?]", "how many people does <x> have[?]"], "zh": ["<x>(有|一共有|现在有)(多少人|多少人口|多少居民)[？]", "<x>(的|)人口(是多少|有多少|多少|数量)[？]", "(查|查一下|告诉我)<x>的人口[数量]", "多少人住在<x>[？]"]},
        "more": {"en": ["(and|what about|how about|and in|and what about) <x>[?]"], "zh": ["(那|那么|还有)<x>(呢)[？]", "<x>呢[？]"]},
        "observe": _population,
    },
}


def tool_definition(rng, name):
    """The definition of a tool as OpenAI's format has it, in one of several wordings."""
    what, about = rng.choice(TOOLS[name]["describe"])
    key = rng.choice(TOOLS[name]["key"])
    parameter = {"type": "integer" if name == "set_timer" else "string", "description": about}
    if rng.random() < 0.2:
        del parameter["description"]
    return {"type": "function", "function": {"name": name, "description": what, "parameters": {"type": "object", "properties": {key: parameter}, "required": [key]}}}


if __name__ == "__main__":
    rng = random.Random(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    for _ in range(8):
        for message in Conversation(rng, rng.randint(2, 8)).messages:
            print(message.get("metadata", ""), message["role"], "|", message.get("content") or [t["function"]["name"] for t in message["tools"]])
        print()
