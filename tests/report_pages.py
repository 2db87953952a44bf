#!/usr/bin/env python3
"""report_pages.py GALLERY [CHROMIUM]: what GALLERY writes (a page and its figures, made of texts that nobody should trust) is XML, its
ids are its own and lead somewhere, and it has no part that hostile text could have put there. With CHROMIUM, a browser opens the page
from its file, without a console message and without a request, picks a block in each way that there is, and prints. Standard library alone."""
import base64
import fcntl
import json
import os
import pathlib
import select
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET

failures = []


def check(condition, text):
    if not condition:
        failures.append(text)
        print('FAILED:', text)


def local(tag):
    return tag.split('}')[-1]


ELEMENTS = set('''html head meta title style body a header h1 p nav ul li main section h2 h3 bdi figure figcaption strong svg desc
    text path rect circle g details summary div table caption thead tbody tr th td pre footer script'''.split())


def markup_complaints(path):
    complaints = []

    def check(condition, text):
        if not condition:
            complaints.append(text)

    text = path.read_text(encoding='utf-8', errors='strict')
    try:
        root = ET.fromstring(text.removeprefix('<!DOCTYPE html>'))
    except ET.ParseError as error:
        check(False, f'{path.name} is not well-formed: {error}')
        return complaints
    ids = [e.get('id') for e in root.iter() if e.get('id')]
    check(len(ids) == len(set(ids)), f'{path.name}: an id stands twice')
    scripts = 0
    for e in root.iter():
        name = local(e.tag)
        check(name in ELEMENTS, f'{path.name}: an element <{name}>')
        scripts += name == 'script'
        for attribute, value in e.attrib.items():
            check(not attribute.startswith('on') and attribute not in ('style', 'src'), f'{path.name}: an attribute {attribute}')
            if attribute == 'href':
                check(value.startswith('#') and value[1:] in ids, f'{path.name}: a link to {value}')
            if attribute == 'aria-labelledby':
                check(all(i in ids for i in value.split()), f'{path.name}: no element {value}')
            check('nan' not in value.split() and 'inf' not in value.split(), f'{path.name}: {attribute}="{value}"')
        if name == 'svg':
            check(e.get('role') == 'img' and local(e[0].tag) == 'title' and local(e[1].tag) == 'desc', f'{path.name}: an <svg> without title')
            check(bool(e[0].text), f'{path.name}: an empty title')
    check(scripts == (path.suffix == '.html'), f'{path.name}: {scripts} scripts')
    return complaints


# What these checks must notice: an attribute with script, one that loads, an element that is none of ours, a link to nothing, a second script.
BROKEN = '''<!DOCTYPE html><html><head><title>x</title></head><body onload="1"><img src="http://127.0.0.1:9/x"/><a href="#no">x</a>
<script>console.log(1)</script><script></script></body></html>'''


class Browser:
    """The DevTools protocol over --remote-debugging-pipe: commands go in at descriptor 3, answers and events come out at 4."""

    def __init__(self, program, profile):
        def high(fd):  # out of the way of 3 and 4
            copy = fcntl.fcntl(fd, fcntl.F_DUPFD, 20)
            os.close(fd)
            return copy

        commands, self.to = map(high, os.pipe())
        self.answers, answers = map(high, os.pipe())
        arguments = [program, '--headless=new', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update',
                     f'--user-data-dir={profile}', '--remote-debugging-pipe', '--window-size=1000,900']
        if os.geteuid() == 0:
            arguments.append('--no-sandbox')
        self.process = subprocess.Popen(['bash', '-c', f'exec "$@" 3<&{commands} 4>&{answers}', 'bash', *arguments], pass_fds=(commands, answers),
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(commands)
        os.close(answers)
        self.events, self.pending, self.number, self.session = [], b'', 0, None

    def read(self, deadline):
        while b'\0' not in self.pending:
            ready = select.select([self.answers], [], [], max(0, deadline - time.monotonic()))[0]
            data = os.read(self.answers, 1 << 20) if ready else b''
            if not data:
                raise SystemExit('FAILED: the browser does not answer')
            self.pending += data
        message, self.pending = self.pending.split(b'\0', 1)
        return json.loads(message)

    def call(self, method, seconds=240, **parameters):
        self.number += 1
        message = {'id': self.number, 'method': method, 'params': parameters}
        if self.session:
            message['sessionId'] = self.session
        os.write(self.to, json.dumps(message).encode() + b'\0')
        deadline = time.monotonic() + seconds
        while True:
            answer = self.read(deadline)
            if answer.get('id') == self.number:
                if 'error' in answer:
                    raise SystemExit(f'FAILED: {method}: {answer["error"]}')
                return answer['result']
            self.events.append(answer)

    def open(self, path):
        self.session = None
        target = self.call('Target.createTarget', url='about:blank')['targetId']
        self.session = self.call('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            self.call(domain + '.enable')
        self.events.clear()
        self.call('Page.navigate', url=path.as_uri())
        deadline = time.monotonic() + 240
        while not any(e.get('method') == 'Page.loadEventFired' for e in self.events):
            self.events.append(self.read(deadline))

    def value(self, expression):
        result = self.call('Runtime.evaluate', expression=expression, awaitPromise=True, returnByValue=True)
        check('exceptionDetails' not in result, f'{expression}: {result.get("exceptionDetails")}')
        return result['result'].get('value')

    def key(self, key):
        for kind in ('rawKeyDown', 'keyUp'):
            self.call('Input.dispatchKeyEvent', type=kind, key=key, code=key, windowsVirtualKeyCode={'ArrowLeft': 37, 'ArrowRight': 39}[key])

    def close(self):
        self.session = None
        try:
            self.call('Browser.close', seconds=10)
            self.process.wait(20)
        except (SystemExit, subprocess.TimeoutExpired):
            self.process.kill()


def event_complaints(browser, page):
    complaints = []
    for event in browser.events:
        method, parameters = event.get('method'), event.get('params', {})
        if method == 'Network.requestWillBeSent' and parameters['request']['url'].split('#')[0] != page.as_uri():
            complaints.append(f'a request: {parameters["request"]["url"]}')
        if method in ('Runtime.exceptionThrown', 'Runtime.consoleAPICalled', 'Log.entryAdded'):
            complaints.append(f'in the console: {parameters}')
        if method == 'Page.javascriptDialogOpening':
            complaints.append(f'a dialog: {parameters}')
    return complaints


SEEN = "Array.from(document.querySelectorAll('.choice')).filter(c => !c.hidden).map(c => c.dataset.name).join()"


def try_in_browser(program, page, screenshots):
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(program, profile)
        try:
            browser.open(page)
            check(browser.value(SEEN) == 'block 2', f'at the beginning, seen: {browser.value(SEEN)}')
            browser.value("document.querySelector('.controls').scrollIntoView()")
            browser.value("const s = document.querySelector('.controls select'); s.selectedIndex = 0; s.dispatchEvent(new Event('change'))")
            check(browser.value(SEEN) == 'block 0', 'the list does not pick a block')
            check(browser.value("document.querySelector('.controls button').disabled"), 'something is before the first block')
            browser.key('ArrowRight')
            check(browser.value(SEEN) == 'block 1', 'an arrow key does not pick the next block')
            browser.key('ArrowLeft')
            check(browser.value(SEEN) == 'block 0', 'an arrow key does not pick the block before')
            browser.value("document.querySelectorAll('.controls button')[1].click()")
            check(browser.value(SEEN) == 'block 1', 'the button does not pick the next block')
            check(browser.value("document.querySelector('[aria-live]').textContent") == 'block 1', 'the choice is not announced')
            browser.value("location.hash = '#landscape-6'; new Promise(done => setTimeout(done, 200))")
            check(browser.value(SEEN) == 'block 3', 'a link into a block does not show it')
            check(browser.value("document.querySelectorAll('.copy button').length") == 4, 'texts have no buttons that copy them')
            for scheme in ('light', 'dark'):
                browser.call('Emulation.setEmulatedMedia', features=[{'name': 'prefers-color-scheme', 'value': scheme}])
                colours = browser.value("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('.svg text')).fill].join()")
                wanted = {'light': 'rgb(255, 255, 255),rgb(27, 31, 36)', 'dark': 'rgb(21, 24, 29),rgb(232, 234, 237)'}[scheme]
                check(colours == wanted, f'{scheme}: {colours}')
                if screenshots:
                    image = browser.call('Page.captureScreenshot', captureBeyondViewport=True)['data']
                    (screenshots / f'{scheme}.png').write_bytes(base64.b64decode(image))
            pdf = base64.b64decode(browser.call('Page.printToPDF')['data'])
            check(pdf.startswith(b'%PDF') and len(pdf) > 20000, 'the page does not print')
            # Nothing of the page may be wider than a telephone but what scrolls by itself.
            browser.call('Emulation.setDeviceMetricsOverride', width=400, height=800, deviceScaleFactor=1, mobile=True)
            check(browser.value('document.documentElement.scrollWidth') <= 400, 'the page is wider than a telephone')
            for complaint in event_complaints(browser, page):
                check(False, complaint)
            broken = page.with_name('broken.html')
            browser.open(broken)
            heard = ' '.join(event_complaints(browser, broken))
            check('a request' in heard and 'in the console' in heard, 'a request and a message of a broken page are not noticed')
        finally:
            browser.close()


def main():
    gallery = sys.argv[1]
    chromium = sys.argv[2] if len(sys.argv) > 2 else None
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run([gallery, directory], check=True)
        files = sorted(pathlib.Path(directory).glob('*.svg')) + sorted(pathlib.Path(directory).glob('*.html'))
        check(len(files) > 10, f'only {len(files)} files')
        for path in files:
            for complaint in markup_complaints(path):
                check(False, complaint)
        broken = pathlib.Path(directory) / 'broken.html'
        broken.write_text(BROKEN)
        check(len(markup_complaints(broken)) == 5, f'of a broken page: {markup_complaints(broken)}')
        if chromium:
            screenshots = os.environ.get('PQ_SCREENSHOTS')
            try_in_browser(chromium, pathlib.Path(directory) / 'page.html', pathlib.Path(screenshots) if screenshots else None)
    return 1 if failures else 0


sys.exit(main())
