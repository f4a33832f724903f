"""Makes bert/vocab.txt and bert/vectors.jsonl with the reference library (pip install tokenizers==0.23.3).

The texts are those of the other vectors; the vocabulary is BERT's special tokens, the characters that occur at
least three times, their continuations, and the most frequent words of the texts.
"""

import collections
import json
import pathlib

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

here = pathlib.Path(__file__).parent
lines = (here / "glm4-tiktoken" / "vectors.jsonl").read_text(encoding="utf-8").strip("\n").split("\n")
texts = [json.loads(line)["text"] for line in lines]

normalizer = normalizers.BertNormalizer()
splitter = pre_tokenizers.BertPreTokenizer()
words = collections.Counter()
for text in texts:
    words.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
characters = collections.Counter()
for word, count in words.items():
    for character in word:
        characters[character] += count

vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
kept = sorted(character for character, count in characters.items() if count >= 3)
vocab += kept + ["##" + character for character in kept]
vocab += [word for word, _ in words.most_common(200) if len(word) > 1]
vocab += ["##" + word[1:] for word, _ in words.most_common(200) if len(word) > 2]
vocab = list(dict.fromkeys(vocab))

tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(vocab)}, unk_token="[UNK]"))
tokenizer.normalizer = normalizer
tokenizer.pre_tokenizer = splitter
tokenizer.add_special_tokens(vocab[:5])
tokenizer.decoder = decoders.WordPiece()
tokenizer.post_processor = processors.TemplateProcessing(
    single="[CLS] $A [SEP]", pair=None, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
)

(here / "bert").mkdir(exist_ok=True)
(here / "bert" / "vocab.txt").write_text("".join(word + "\n" for word in vocab), encoding="utf-8")
with open(here / "bert" / "vectors.jsonl", "w", encoding="utf-8") as out:
    for i, text in enumerate(texts):
        ids = tokenizer.encode(text).ids
        vector = {"id": f"bert-{i:04}", "text": text, "ids": ids, "decoded": tokenizer.decode(ids)}
        out.write(json.dumps(vector, ensure_ascii=False, separators=(",", ":")) + "\n")
