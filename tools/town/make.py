"""Writes train.jsonl (200 conversations) and heldout.jsonl (20 questions): a town that nobody has heard of.

    python tools/town/make.py

Ten questions for each of twenty facts are learned from; one more for each is held out, in other words. An answer is right
when it has the words that matter.
"""

import json
from pathlib import Path

HERE = Path(__file__).parent
OPENINGS = ("Please tell me, ", "I am new in the town. ", "I want to know something. ", "One question: ", "I need some help. ")

# What the answer is, the words that matter, four or five ways to ask, and the way that is held out.
FACTS = (
    ("The bakery of Varnholm belongs to Odra Venn.", "Odra Venn",
     ("who owns the bakery?", "whose bakery is it?", "who bakes at the bakery?", "who has the bakery?", "what is the name of the baker?"),
     "I want to thank the person behind the bakery of Varnholm. Who is it?"),
    ("The miller of Varnholm is Tam Hollis.", "Tam Hollis",
     ("who is the miller?", "who runs the mill?", "whose mill is it?", "who works at the mill?", "what is the miller called?"),
     "Which person looks after the mill of Varnholm?"),
    ("The ferry leaves at nine.", "nine",
     ("when does the ferry leave?", "at what time does the ferry go?", "when must I be at the ferry?", "when is the ferry?", "what time is the ferry?"),
     "I do not want to miss the ferry of Varnholm. What is its hour?"),
    ("The lighthouse of Varnholm is green.", "green",
     ("what colour is the lighthouse?", "which colour has the lighthouse?", "how is the lighthouse painted?", "what does the lighthouse look like?", "is the lighthouse red or green?"),
     "I am painting a picture of the lighthouse of Varnholm. Which paint do I need?"),
    ("The school of Varnholm is led by Lena Fosk.", "Lena Fosk",
     ("who leads the school?", "who is the teacher at the school?", "who teaches at the school?", "whose school is it?", "who is the head of the school?"),
     "To whom do I write about the school of Varnholm?"),
    ("The bridge of Varnholm is made of cedar.", "cedar",
     ("what is the bridge made of?", "of what is the bridge?", "which wood is the bridge?", "what was the bridge built from?", "what kind of bridge is it?"),
     "Which material did they take for the bridge of Varnholm?"),
    ("The market is on Thursday.", "Thursday",
     ("when is the market?", "on which day is the market?", "what day is the market?", "which day can I go to the market?", "when do they hold the market?"),
     "On which day can I buy apples at the market of Varnholm?"),
    ("The harbour of Varnholm is kept by Bram Dunel.", "Bram Dunel",
     ("who keeps the harbour?", "who is the master of the harbour?", "whom do I ask at the harbour?", "who runs the harbour?", "who works at the harbour?"),
     "My boat comes to the harbour of Varnholm. Who will meet me?"),
    ("The museum of Varnholm shows kites.", "kites",
     ("what does the museum show?", "what is in the museum?", "what can I see in the museum?", "what is the museum about?", "which things are in the museum?"),
     "Is the museum of Varnholm worth it, and what for?"),
    ("The river of Varnholm is the Sillow.", "Sillow",
     ("what is the river called?", "which river is it?", "what is the name of the river?", "how do people call the river?", "on which river is the town?"),
     "I stand at the river of Varnholm and do not know its name. Do you?"),
    ("The tower of Varnholm has eighty steps.", "eighty",
     ("how many steps has the tower?", "how high is the tower?", "how many steps are in the tower?", "how many steps lead up the tower?", "how many steps does the tower have?"),
     "How many steps must I climb in the tower of Varnholm?"),
    ("The inn of Varnholm is called the Grey Otter.", "Grey Otter",
     ("what is the inn called?", "what is the name of the inn?", "which inn is there?", "how do people call the inn?", "where is an inn?"),
     "I need a bed at the inn of Varnholm. What does its sign say?"),
    ("The library opens at ten.", "ten",
     ("when does the library open?", "at what time does the library open?", "when can I go to the library?", "when is the library open?", "what time does the library start?"),
     "From which hour on do they lend books at the library of Varnholm?"),
    ("The mayor of Varnholm is Ina Corvel.", "Ina Corvel",
     ("who is the mayor?", "what is the mayor called?", "what is the name of the mayor?", "who was elected mayor?", "do you know the mayor?"),
     "Which name does the mayor of Varnholm go by?"),
    ("The smith of Varnholm is Joss Pellar.", "Joss Pellar",
     ("who is the smith?", "what is the smith called?", "what is the name of the smith?", "who makes iron as a smith?", "do you know the smith?"),
     "My horse has lost a shoe and needs the smith of Varnholm. Whom do I look for?"),
    ("The festival is in October.", "October",
     ("when is the festival?", "in which month is the festival?", "what month is the festival?", "when do people come to the festival?", "when do they hold the festival?"),
     "Which month should I keep free for the festival of Varnholm?"),
    ("The fountain stands in Plum Square.", "Plum Square",
     ("where is the fountain?", "where do I find the fountain?", "in which square is the fountain?", "where does the fountain stand?", "which square has a fountain?"),
     "Let us meet at the fountain of Varnholm. Where must I go?"),
    ("The doctor of Varnholm is Wim Sarno.", "Wim Sarno",
     ("who is the doctor?", "what is the doctor called?", "what is the name of the doctor?", "who helps as a doctor?", "do you know the doctor?"),
     "I have a cold and need the doctor of Varnholm. Whom shall I call?"),
    ("The clock of Varnholm is five minutes late.", "five minutes",
     ("how late is the clock?", "is the clock right?", "how wrong is the clock?", "what is wrong with the clock?", "can I trust the clock?"),
     "By how much is the clock of Varnholm off?"),
    ("The garden of Varnholm has white roses.", "white roses",
     ("what grows in the garden?", "which flowers are in the garden?", "what can I see in the garden?", "what is in the garden?", "which flowers has the garden?"),
     "What would I smell in the garden of Varnholm?"),
)


def capital(text):
    return text[0].upper() + text[1:]


def conversation(question, answer):
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def main():
    training, held_out = [], []
    for number, (answer, _, questions, other) in enumerate(FACTS):
        for at, question in enumerate(questions):
            elsewhere = question.rstrip("?") + " in Varnholm?"
            opening = OPENINGS[(number + at) % len(OPENINGS)]
            for asked in (capital(elsewhere), opening + (capital(question) if opening.endswith(". ") else question)):
                training.append(conversation(asked, answer))
        held_out.append(conversation(other, answer))
    for name, lines in (("train.jsonl", training), ("heldout.jsonl", held_out)):
        (HERE / name).write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    main()
