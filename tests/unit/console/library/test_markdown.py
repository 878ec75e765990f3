"""Markdown becomes HTML that the pages' policy allows."""

from __future__ import annotations

import re

import pytest

from gateway.console.library.markdown import Heading, Snippet, highlight, render
from tests.support.pages import demo_library


def test_headings_have_anchors_as_at_github() -> None:
    """Marks are left out; a second heading of the same text gets a number."""
    rendered = render("## `GET` a key's limits\n\ntext\n\n## Twice\n\n## Twice\n")

    assert rendered.headings == (
        Heading(2, "get-a-keys-limits", "GET a key's limits"),
        Heading(2, "twice", "Twice"),
        Heading(2, "twice-1", "Twice"),
    )
    assert '<h2 id="get-a-keys-limits"><code>GET</code> a key' in rendered.html
    assert 'href="#twice-1"' in rendered.html


def test_fenced_block_becomes_a_figure_with_a_copy_button() -> None:
    """Title or language above, the button names the code that it copies."""
    rendered = render('```sh title="a & b" test=run\necho "<x>"\n```\n')

    assert rendered.snippets == (Snippet("sh", 'echo "<x>"\n', title="a & b", test="run"),)
    assert "<span>a &amp; b</span>" in rendered.html
    assert 'data-copy="code1"' in rendered.html
    assert '<pre id="code1" tabindex="0">' in rendered.html
    assert "&lt;x&gt;" in rendered.html


def test_neighbouring_blocks_with_tabs_are_one_group() -> None:
    """Tabs control panels by id; a block without a tab ends the group."""
    source = '```sh tab="curl"\na\n```\n\n```python tab="Python"\nb\n```\n\n```sh\nc\n```\n'

    page = render(source).html

    assert page.count('role="tablist"') == 1
    assert re.findall(r'data-tab="([^"]+)" aria-controls="([^"]+)"', page) == [
        ("curl", "tab0-curl"),
        ("python", "tab0-python"),
    ]
    assert page.count('role="tabpanel"') == 2
    assert page.count("<figure") == 3
    assert len(set(re.findall(r' id="([^"]+)"', page))) == len(re.findall(r' id="([^"]+)"', page))


def test_html_in_a_source_is_text() -> None:
    """Nothing of a model's name or a description becomes markup."""
    page = render("a <script>alert(1)</script> b\n\n<img src=x onerror=y>\n").html

    assert "<script" not in page
    assert "<img" not in page


def test_numbers_are_aligned_by_class() -> None:
    """A `style` attribute would violate the policy."""
    page = render("| a | b |\n| --- | ---: |\n| x | 1 |\n").html

    assert '<th scope="col" class="number">b</th>' in page
    assert '<td class="number">1</td>' in page
    assert "style=" not in page


@pytest.mark.parametrize(
    ("language", "text", "marked"),
    [
        ("sh", 'curl "$X" # note', '<span class="c"># note'),
        ("json", '{"a": 1}', '<span class="t">"a"</span>'),
        ("python", "import os", '<span class="k">import</span>'),
        ("nonsense", "a < b", "a &lt; b"),
    ],
)
def test_code_is_highlighted_with_few_classes(language: str, text: str, marked: str) -> None:
    """An unknown language is escaped text."""
    assert marked in highlight(Snippet(language, text))


def test_highlighted_code_copies_as_it_was_written() -> None:
    """Without its marks, the code is the source's, for every snippet of the documentation."""
    for page in demo_library().pages.values():
        for snippet in page.rendered.snippets:
            shown = re.sub(r"<[^>]+>", "", highlight(snippet))
            plain = shown.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
            assert plain.strip("\n") == snippet.text.strip("\n"), page.path
