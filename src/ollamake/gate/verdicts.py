"""Tests and answers -> results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ollamake.catalog.tests import ALWAYS, Keeps, Measure, Question
from ollamake.errors import Mark
from ollamake.gate import expectations, metrics
from ollamake.gate.answers import Answer, Ask
from ollamake.gate.expectations import majority, wrong_with_answer
from ollamake.gate.metrics import SCORES, mean, token_f1, wrong_with_score
from ollamake.gate.quoted import shown
from ollamake.gate.report import DATASET, EFFECT, KEEPS, QUESTION, Result
from ollamake.spelling import counted

EFFECT_NAME = ALWAYS[0]


def question_result(question: Question, asked: Ask, answers: Sequence[Answer], schema: Any) -> Result:
    """Of a question that was answered once, or several times."""
    reasons = [_with_cut(wrong_with_answer(answer.text, question.expect, schema), answer) for answer in answers]
    rights = [reason is None for reason in reasons]
    worst = next((place for place, reason in enumerate(reasons) if reason is not None), 0)
    passed = majority(rights)
    why = reasons[worst] or ""
    if len(answers) > 1:
        why = f"{sum(rights)} of {len(rights)} answers are right{f'; {why}' if why else ''}"
    return Result(
        name=question.name,
        kind=QUESTION,
        passed=passed,
        question=asked.question,
        answer=answers[worst].text,
        wanted=expectations.wanted(question.expect),
        why=why,
        seconds=_seconds(answers),
        at=str(question.mark),
    )


def measure_result(
    measure: Measure, asked: Sequence[tuple[str, str]], answers: Sequence[Answer], *, of: str, others: Mapping[str, float | None]
) -> Result:
    """Of records that were asked: (question, wanted answer) each. `others`: the scores that it is held against."""
    scores = [SCORES[measure.metric](answer.text, wanted) for answer, (_, wanted) in zip(answers, asked, strict=True)]
    worst = min(range(len(scores)), key=scores.__getitem__)
    score = mean(scores)
    result = scored(measure, score, of=of, others=others, count=len(asked), seconds=_seconds(answers))
    if result.passed:
        return result
    question, wanted = asked[worst]
    cut = "; it was cut before its end" if answers[worst].is_cut else ""
    why = f"{result.why}; the worst answer is to have been {shown(wanted)}{cut}"
    return replace(result, question=question, answer=answers[worst].text, why=why)


def scored(measure: Measure, score: float, *, of: str, others: Mapping[str, float | None], count: int, seconds: float) -> Result:
    """Of a score over so many records."""
    wrong = wrong_with_score(measure, score, others)
    told = [f"{score:.4f} over {counted(count, 'record')}"]
    told += [f"{name}: {other:.4f}" for name, other in others.items() if other is not None]
    if measure.no_worse_than is not None and others.get(measure.no_worse_than) is None:
        told.append(f"{measure.no_worse_than}: nothing to hold it against")
    return Result(
        name=measure.name,
        kind=DATASET,
        passed=wrong is None,
        wanted=metrics.wanted(measure),
        score=score,
        of=of,
        why="; ".join([*([wrong] if wrong else []), *told]),
        seconds=seconds,
        at=str(measure.mark),
    )


def keeps_result(keeps: Keeps, asked: Sequence[Ask], mine: Sequence[Answer], bases: Sequence[Answer]) -> Result:
    """Of prompts that model and base were asked."""
    scores = [token_f1(own.text, base.text) for own, base in zip(mine, bases, strict=True)]
    same = [own.text.strip() == base.text.strip() for own, base in zip(mine, bases, strict=True)]
    right = same if keeps.least is None else [score >= keeps.least - metrics.SLACK for score in scores]
    worst = next((place for place, is_right in enumerate(right) if not is_right), 0)
    least = "" if keeps.least is None else f", token F1 {scores[worst]:.4f}, less than {keeps.least:g}"
    why = "" if all(right) else f"{right.count(False)} of {len(right)} are answered otherwise; the base answers {shown(bases[worst].text)}{least}"
    return Result(
        name=keeps.name,
        kind=KEEPS,
        passed=all(right),
        question=asked[worst].question,
        answer=mine[worst].text,
        wanted="the answer of the base" if keeps.least is None else f"the answer of the base, token_f1 at least {keeps.least:g}",
        score=mean(scores),
        why=why,
        seconds=_seconds((*mine, *bases)),
        at=str(keeps.mark),
        of_base=bases[worst].text,
    )


def effect_result(asked: Sequence[Ask], mine: Sequence[Answer], bases: Sequence[Answer], at: Mark, *, given: bool) -> Result:
    """Do the answers of model and base differ at all? `given`: the adapter was there already, and was not trained here."""
    other = next((place for place, (own, base) in enumerate(zip(mine, bases, strict=True)) if own.text != base.text), None)
    result = Result(name=EFFECT_NAME, kind=EFFECT, passed=other is not None, seconds=_seconds((*mine, *bases)), at=str(at))
    if other is not None:
        why = f"the base answers {shown(bases[other].text)}"
        return replace(result, question=asked[other].question, answer=mine[other].text, why=why, of_base=bases[other].text)
    fix = "raise `learning_rate` or `epochs`, or give it more records; `doit show` tells what of them is learnt"
    if given:
        fix = "look whether it is the adapter that is meant, and whether it was trained on this base"
    why = f"all of {counted(len(asked), 'answer')} are those of the base: the model is the base under another name"
    return replace(result, question=asked[0].question, answer=mine[0].text, why=why, fix=fix, of_base=bases[0].text)


def _with_cut(reason: str | None, answer: Answer) -> str | None:
    return f"{reason}; it was cut before its end" if reason is not None and answer.is_cut else reason


def _seconds(answers: Sequence[Answer]) -> float:
    return round(sum(answer.seconds for answer in answers), 3)
