"""Packs jieba's dictionary for `glimmer eval generation`: words and how often they occur, without the kinds of words.

    pip install jieba==0.42.1
    python tools/make_word_list.py crates/train/assets/jieba.dict.gz
"""

import gzip
import pathlib
import sys

import jieba

lines = pathlib.Path(jieba.__file__).with_name("dict.txt").read_text(encoding="utf-8").splitlines()
words = sorted((line.split(" ")[:2] for line in lines if line), key=lambda word: word[0].encode())
text = "".join(f"{word} {count}\n" for word, count in words)
pathlib.Path(sys.argv[1]).write_bytes(gzip.compress(text.encode(), 9, mtime=0))
