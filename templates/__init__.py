"""The words of a prompt: what is asked, and how an answer is read."""

from templates.library import load_demonstrations, load_template
from templates.prompt import Prompt, Text, Turn
from templates.template import Template
from templates.verbalizer import Verbalizer

__all__ = ["Prompt", "Template", "Text", "Turn", "Verbalizer", "load_demonstrations", "load_template"]
