"""A page inside a notebook, as a browser shows it."""

from p10k_jax.reporting.inline import inline_page
from p10k_jax.reporting.page import render
from tests.browser import chromium, opened


def test_the_frame_holds_the_page_and_keeps_its_style_to_itself(tmp_path):
    hostile = "\"'><script>parent.document.title = 'taken'</script>"
    page = render(
        "run.html",
        title=hostile,
        lead="",
        tiles=[],
        curves=[],
        splits=[],
        changes=[],
        config="{}",
        facts=[],
        command="",
    )
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    shown = inline_page(tmp_path / "report.html", height=321)._repr_html_()
    notebook = tmp_path / "notebook.html"
    notebook.write_text(f"<!doctype html><title>mine</title><body><h1>mine</h1>{shown}</body>", encoding="utf-8")
    with chromium() as browser:
        alone, _ = opened(browser, tmp_path / "report.html")
        outside, seen = opened(browser, notebook)
        (inside,) = outside.frames[1:]
        inside.wait_for_selector("h1")
        assert inside.inner_text("h1") == alone.inner_text("h1") == hostile
        assert inside.inner_text("footer") == alone.inner_text("footer")
        font = "getComputedStyle(document.querySelector('h1')).fontFamily"
        assert inside.evaluate(font) == alone.evaluate(font) != outside.evaluate(font)
        assert outside.title() == "mine"
        assert outside.locator("iframe").bounding_box()["height"] == 321 + 2
        assert not seen.errors
