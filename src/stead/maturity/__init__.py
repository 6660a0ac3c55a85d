"""Maturity: where a team and its models stand, computed from their records; what the next step is, and whether any of it pays."""

from stead.maturity.advice import FOR_WHOM
from stead.maturity.answering import worth
from stead.maturity.checks import BY_NAME, CHECKS
from stead.maturity.operations import assess, check_rows, keep_daily, keep_month
from stead.maturity.questions import QUESTIONS, answer, list_answers, said
from stead.maturity.types import (
    IMPORTANCE,
    STAGES,
    Answer,
    Case,
    Checked,
    Condition,
    Effect,
    Figure,
    Fit,
    Input,
    Known,
    Line,
    Maturity,
    Measured,
    Month,
    Question,
    Recorded,
    Result,
    Row,
    Stage,
    Step,
    Work,
    Worth,
)
from stead.maturity.work import DEFAULT_MINUTES, begin_review, by_deployment, by_hand, correct_work, list_work

OPERATIONS = {
    "read": ("assess", "check_rows", "list_answers", "list_work", "worth"),
    "write": ("answer", "correct_work"),
    "approve": ("begin_review",),
}

__all__ = [
    "BY_NAME",
    "CHECKS",
    "DEFAULT_MINUTES",
    "FOR_WHOM",
    "IMPORTANCE",
    "OPERATIONS",
    "QUESTIONS",
    "STAGES",
    "Answer",
    "Case",
    "Checked",
    "Condition",
    "Effect",
    "Figure",
    "Fit",
    "Input",
    "Known",
    "Line",
    "Maturity",
    "Measured",
    "Month",
    "Question",
    "Recorded",
    "Result",
    "Row",
    "Stage",
    "Step",
    "Work",
    "Worth",
    "answer",
    "assess",
    "begin_review",
    "by_deployment",
    "by_hand",
    "check_rows",
    "correct_work",
    "keep_daily",
    "keep_month",
    "list_answers",
    "list_work",
    "said",
    "worth",
]
