"""Check the built site: links, requests to elsewhere, width and height on a phone, accessibility.

    python docs/check_site.py docs/_build/html                              # links alone
    python docs/check_site.py docs/_build/html --browser                    # and widths and heights
    python docs/check_site.py docs/_build/html --browser --axe axe.min.js   # and accessibility

The browser is Chromium, driven by selenium (``pip install selenium``; Debian: ``apt-get install
chromium chromium-driver``). axe-core is the file ``axe.min.js`` of the npm package
(``npm pack axe-core``). Prints what it finds, a line each, and exits with 1 if that is anything.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

PHONE, DESK = 390, 1400  # widths in pixels
HIGHEST = 12_000  # a page on a phone
# What is loaded with a page, other than what it links to.
LOADED = {("img", "src"), ("script", "src"), ("iframe", "src"), ("source", "src"), ("video", "src")}
STYLES = {"stylesheet", "icon", "preload", "shortcut"}
FOREIGN = [[".sk-top-container"]]  # diagrams of estimators are scikit-learn's
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]


@dataclass
class Page(HTMLParser):
    """The anchors of a page, what it links to and what it loads."""

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attrs}
        self.anchors |= {known[name] for name in ("id", "name") if name in known}
        if tag == "a" and "href" in known:
            self.links.append(known["href"])
        if tag == "link" and STYLES & set(known.get("rel", "").split()):
            self.loads.append(known.get("href", ""))
        self.loads += [value for name, value in known.items() if (tag, name) in LOADED]


def pages_of(site: Path) -> list[Path]:
    """Return the pages, without what a theme keeps among its files."""
    aside = {"_static", "_downloads"}
    return [f for f in sorted(site.rglob("*.html")) if f.relative_to(site).parts[0] not in aside]


def check_links(site: Path) -> Iterator[tuple[str, str]]:
    """Yield page and finding of links that lead nowhere, and of files loaded from elsewhere."""
    pages = {}
    for file in pages_of(site):
        pages[file] = Page()
        pages[file].feed(file.read_text(encoding="utf-8"))
    for file, page in pages.items():
        name = str(file.relative_to(site))
        for url in dict.fromkeys([*page.links, *page.loads]):
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                if url in page.loads and parts.scheme != "data":
                    yield name, f"loads {url} from elsewhere"
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file.resolve()
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                yield name, f"{url} leads to no file"
            elif parts.fragment and target.suffix == ".html":
                there = pages.get(target) or pages.get(site / target.relative_to(site.resolve()))
                if there is not None and unquote(parts.fragment) not in there.anchors:
                    yield name, f"{url} leads to no anchor"


# What is wider than the page and does not scroll in a box of its own: the innermost elements.
TOO_WIDE = """
const width = document.documentElement.clientWidth;
if (document.documentElement.scrollWidth <= width) return [];
const boxed = e => { for (let p = e.parentElement; p; p = p.parentElement)
  if (getComputedStyle(p).overflowX != 'visible' && p != document.body
      && p != document.documentElement) return true; return false; };
const wide = [...document.querySelectorAll('body *')].filter(
  e => e.getBoundingClientRect().right > width + 1 && !boxed(e));
return wide.filter(e => !wide.some(o => o != e && e.contains(o))).slice(0, 3).map(
  e => e.tagName.toLowerCase() + '.' + [...e.classList].join('.') + ' ' +
       e.textContent.trim().slice(0, 40));
"""
AXE = """
const done = arguments[arguments.length - 1];
axe.run({exclude: arguments[1]}, {runOnly: arguments[0], resultTypes: ['violations']}).then(
  r => done(r.violations.map(v => [v.id, v.help, v.nodes.map(n => n.html.slice(0, 120))])),
  e => done([['axe', String(e), []]]));
"""


def check_in_browser(site: Path, names: list[str], axe: Path | None) -> Iterator[tuple[str, str]]:
    """Yield page and finding of what Chromium shows of these pages, on a phone and on a desk."""
    script = None if axe is None else axe.read_text(encoding="utf-8")
    with _served(site) as address, _chromium() as browser:
        for name in names:
            for scheme, width in (("light", PHONE), ("dark", DESK)):
                _emulate(browser, width, scheme)
                browser.get(f"{address}/{name}")
                where = f"{width} px, {scheme}"
                for url in browser.execute_script(
                    "return performance.getEntriesByType('resource').map(e => e.name)"
                ):
                    if not url.startswith((address, "data:")):
                        yield name, f"requests {url}"
                wide = browser.execute_script(TOO_WIDE)
                if wide:
                    yield name, f"{where}: wider than the page: {'; '.join(wide)}"
                if width == PHONE:
                    height = browser.execute_script("return document.body.scrollHeight")
                    if height > HIGHEST:
                        yield name, f"{where}: {height:,} px high"
                if script is not None:
                    browser.execute_script(script)
                    for rule, text, nodes in browser.execute_async_script(AXE, RULES, FOREIGN):
                        first = f", {nodes[0]!r}" if nodes else ""
                        yield name, f"{where}: axe {rule}: {text} ({len(nodes)}{first})"


@contextlib.contextmanager
def _served(site: Path) -> Iterator[str]:
    """Serve a folder to this machine, as pages of `file:` may not do all that others may."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


@contextlib.contextmanager
def _chromium() -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    driver = shutil.which("chromedriver")
    service = webdriver.ChromeService(driver) if driver else None
    browser = webdriver.Chrome(options, service)
    browser.set_script_timeout(120)
    try:
        yield browser
    finally:
        browser.quit()


def _emulate(browser: Any, width: int, scheme: str) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})


def main(command: list[str] | None = None) -> int:
    """Read the command line, check, and return how many findings there are."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("site", type=Path, help="folder of the built site")
    parser.add_argument("--browser", action="store_true", help="look at the pages in Chromium")
    parser.add_argument("--axe", type=Path, help="path of axe.min.js")
    parser.add_argument("--pages", default="", help="regular expression: look at these pages alone")
    arguments = parser.parse_args(command)
    if not (arguments.site / "index.html").is_file():
        parser.error(f"{arguments.site} holds no index.html. Build the site first: make docs")
    if arguments.axe is not None and not arguments.axe.is_file():
        parser.error(f"there is no {arguments.axe}. Get it with: npm pack axe-core")
    n = 0
    names = [str(file.relative_to(arguments.site)) for file in pages_of(arguments.site)]
    names = [name for name in names if re.search(arguments.pages, name)]
    findings = check_links(arguments.site)
    for page, finding in findings:
        n += 1
        print(f"{page}: {finding}", flush=True)
    if arguments.browser or arguments.axe:
        for page, finding in check_in_browser(arguments.site, names, arguments.axe):
            n += 1
            print(f"{page}: {finding}", flush=True)
    print(f"{n} findings in {len(names)} pages")
    return n


if __name__ == "__main__":
    sys.exit(min(main(), 1))
