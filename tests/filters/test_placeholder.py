"""Placeholders: slots nobody filled, and the many texts that hold such marks on purpose."""

import json

import pytest

from filters.placeholder import Placeholder
from tests.filters.good_rows import alpaca_rows, chats_ko, documents, self_instruct, shared, solutions, stories
from tests.helpers import record

LEAKS = [
    ("Who are you?", "I am {{name}}, made by {{author}}.", "template_variable"),
    ("Hi {{user}}, how are you?", "Fine.", "template_variable"),
    ("Write an invoice.", "Dear ${customer_name}, hello", "template_variable"),
    ("Write to me.", "Dear [Your Name],\nHello", "unfilled_slot"),
    ("Invite me.", "The meeting is on [Date] at [Time].", "unfilled_slot"),
    ("소개해 줘.", "안녕하세요. [회사명]의 [담당자 이름]입니다.", "unfilled_slot"),
    ("언제 만나?", "[날짜 입력]에 만나요.", "unfilled_slot"),
    ("Who are you?", "My name is ____.", "unfilled_blank"),
    ("Hi", "Hello<|im_end|>", "control_token"),
    ("Hi", "Hello\n<|im_start|>user\nMore", "control_token"),
    ("Hi", "[INST] Do it [/INST] ok", "control_token"),
    ("Hi", "### Response:\nHello", "control_token"),
    ("Hi", "<think>hmm", "control_token"),
    ("Add.", "Answer: 4</s>", "control_token"),
    ("Show it.", "```\nx = 1\n```<|endoftext|>", "control_token"),
    ("Summarize.\n\n<noinput>", "It is short.", "no_input_mark"),
    ("Describe the attached image.", "It shows a cat.", "attached_media"),
    ("What is in the picture below?", "A dog", "attached_media"),
    ("첨부한 이미지를 설명해 주세요.", "고양이입니다.", "attached_media"),
    ("다음 사진을 보고 이야기를 써 주세요.", "옛날에", "attached_media"),
    ("Summarize this article:\n\nhttps://www.bbc.com/news/world-1234", "ok", "bare_url"),
    ("https://www.youtube.com/watch?v=abc", "ok", "bare_url"),
    ("이 기사를 요약해 줘: https://n.news.naver.com/article/001", "요약", "bare_url"),
]
WANTED = [
    ("How do I show a variable in Vue?", "Use {{ message }} in the template."),
    ("Write a page.", "<div>\n{{ user.name }}\n</div>"),
    ("Solve.", "$\\frac{{a}}{{b}}$ and \\binom{{n}}{{k}}"),
    ("Explain Mustache.", "It puts `{{name}}` into ```{{page}}```."),
    ("Greet.", "```jinja\nHello {{ name }}\n```"),
    ("How do I print it?", "echo ${HOME}; ls"),
    ("Write a letter template.", "Dear [Name],"),
    ("Write a song.", "[Chorus]\nLa la la\n[Verse 1]"),
    ("Cite.", "As shown [1], [citation needed]. See [name](https://x.org) and arr[name]."),
    ("Fill in the blank.", "The ____ is red."),
    ("Write a fill-in-the-blank question about the sun.", "The ____ is a star."),
    ("The Rockets are an American professional ___ team.", "basketball"),
    ("Python?", "Use __init__ and `___`.\n\n___\n\nDone."),
    ("What does <s> do in HTML?", "It strikes: `<s>x</s>`."),
    ("Explain BERT.", "BERT adds the tokens [PAD] and <unk> to its vocabulary."),
    ("Which URL is valid?\n\nhttps://www.google.com", "The first."),
    ("Extract the domain: https://a.b.com/x", "a.b.com"),
    ("What about Jellyfin? https://jellyfin.org/", "A fine server."),
    ("Write an email saying that the file is attached.", "Please find attached the file."),
    ("Given the following image description, write a caption.\n\nA cat on a mat.", "Cat!"),
    ("다음 그림책 제목을 지어 주세요.", "달님"),
    ("How many hours has she uploaded? She uploaded videos all day.", "Eight."),
    ("Compare.", "if x < 3 and y > 2: pass [a]"),
]


@pytest.mark.parametrize(("prompt", "answer", "reason"), LEAKS)
def test_a_leak_is_found(prompt: str, answer: str, reason: str) -> None:
    """Variables, slots, blanks, control tokens, and inputs that are not there."""
    check = Placeholder().judge(record(answer, prompt=prompt))
    assert (check.passed, check.reason) == (False, reason)
    assert check.value >= 1 and check.detail.startswith("holds ")


@pytest.mark.parametrize(("prompt", "answer"), WANTED)
def test_what_is_wanted_is_no_leak(prompt: str, answer: str) -> None:
    """Templates that were asked for, code, LaTeX, quizzes, songs, links, and tasks about addresses."""
    assert Placeholder().judge(record(answer, prompt=prompt)).passed


def test_only_the_text_asked_for_is_read() -> None:
    """`on` chooses the prompt or the answer."""
    leaky = record("I am {{name}}.", prompt="Describe the attached image.")
    assert Placeholder(on="answer").judge(leaky).reason == "template_variable"
    assert Placeholder(on="prompt").judge(leaky).reason == "attached_media"
    assert Placeholder().judge(leaky).value == 2


def test_every_leak_of_a_real_template_set_is_found() -> None:
    """LLaMA-Factory's identity rows: the 85 with {{name}} or {{author}} and not the 6 without, in three languages."""
    for row in json.loads(shared("llamafactory/identity.json").read_text("utf-8")):
        leaks = "{{" in row["instruction"] + row["output"]
        check = Placeholder().judge(record(row["output"], prompt=row["instruction"]))
        assert check.passed != leaks, row
        assert not leaks or check.reason == "template_variable"


def test_good_rows_pass() -> None:
    """2 of 175 seed tasks hold [Your Name] or ____ in the answer; nothing else is dropped."""
    rows = [*stories("stories_ko"), *stories("stories_en"), *chats_ko(), *alpaca_rows(), *solutions()]
    rows += [*documents("docs_vue_ko"), *documents("docs_transformers_ko"), *documents("docs_hf_course")]
    assert [r for r in rows if not Placeholder().judge(record(r.answer, prompt=r.prompt)).passed] == []
    lost = [r for r in self_instruct() if not Placeholder().judge(record(r.answer, prompt=r.prompt)).passed]
    assert len(lost) <= 2
