// One session: its terminals as they were, or as they go on, beside what was asked and decided at the time.

import { api, ask, el, link, plain, say, Told } from './page.js';
import { Screen } from './screen.js';
import { decided, line, twice } from './views.js';

// Most that one page keeps of a recording.
const MOST = 64 * 1024 * 1024;
const SPEEDS = [0.5, 1, 2, 4, 8];
// Pauses are no longer than that.
const PAUSE = 2;

const clock = (seconds) => {
  const whole = Math.max(Math.floor(seconds), 0);
  const two = (number) => String(number).padStart(2, '0');
  return `${two(Math.floor(whole / 3600))}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}.${Math.floor((seconds % 1) * 10)}`;
};

const bytes = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));

export class Replay {
  constructor(id, failed) {
    this.id = id;
    this.failed = failed;
    this.frames = [];
    this.audit = [];
    this.rules = {};
    this.kept = 0;
    this.done = 0;
    this.now = 0;
    this.screens = new Map();
    this.shown = undefined;
    this.follows = true;
    this.stop = new AbortController();
    this.make();
  }

  make() {
    this.state = el('p', { id: 'state', tabIndex: -1 }, 'reading');
    this.play = el('button', { type: 'button', id: 'play' }, 'Play');
    this.play.addEventListener('click', () => this.toggle());
    this.speed = el('select', { id: 'speed' }, SPEEDS.map((speed) => el('option', { value: speed, selected: speed === 1 }, `${speed}×`)));
    this.slider = el('input', { id: 'seek', type: 'range', min: 0, max: 0, step: 0.1, value: 0 });
    this.slider.addEventListener('input', () => {
      this.follows = false;
      this.seek(Number(this.slider.value));
    });
    this.time = el('output', { id: 'time' }, clock(0));
    this.name = el('p', { className: 'quiet', id: 'which' });
    this.screen = el('pre', { id: 'screen', className: 'screen', tabIndex: 0, 'aria-label': 'What the terminal showed' });
    this.timeline = el('ol', { id: 'timeline', className: 'list timeline' });
    this.end = twice('End', `End the session ${this.id}`, async () => {
      await api('/api/sessions/end', { session: this.id });
      say('The session is ended.');
    });
    this.end.id = 'end';
  }

  view() {
    return [
      el('h2', null, `Session ${this.id}`),
      this.state,
      el('form', { 'aria-label': 'Playback', onsubmit: (event) => event.preventDefault() }, this.play,
        el('label', null, 'Speed', this.speed), el('label', null, 'Time', this.slider), this.time, this.end),
      this.name, this.screen,
      el('h3', null, 'What happened when'),
      this.timeline,
      el('p', null, link(`#/audit/${this.id}`, 'Its lines in the audit log')),
      el('p', null, link('#/sessions', 'Back to the list')),
    ];
  }

  close() {
    this.stop.abort();
    clearInterval(this.ticks);
  }

  // Reads what there is, and what comes, to the session's end.
  async read() {
    const lines = this.lines();
    try {
      const answer = await ask('/api/sessions/watch', { session: this.id }, this.stop.signal);
      if (!answer.ok) throw new Told(answer.status, await answer.json());
      let rest = '';
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        const parts = (rest + value).split('\n');
        rest = parts.pop();
        for (const part of parts.filter(Boolean)) this.take(JSON.parse(part));
        if (this.kept > MOST) {
          this.state.textContent = 'the rest is more than a page holds: `interceptor sessions play` shows all of it';
          this.close();
        }
        this.fresh();
      }
      if (!this.over) this.state.textContent = 'no longer followed: load the page again';
    } catch (error) {
      if (!this.stop.signal.aborted) this.failed(error);
    }
    await lines;
  }

  take(frame) {
    if (frame.session) {
      this.begun = frame.session.started_boot_ns;
      this.state.textContent = 'open, as it goes on';
    } else if (frame.over !== undefined || frame.failed !== undefined) {
      this.over = true;
      this.state.textContent = frame.failed ? `it cannot be read further: ${plain(frame.failed)}` : `over: ${plain(frame.over)}`;
      this.end.remove();
      this.lines();
    } else {
      this.kept += frame.shown?.length ?? 64;
      this.frames.push(frame);
      if (frame.asked || frame.closed !== undefined) this.later();
    }
  }

  // The audit is asked again a while after something was judged, and not for each.
  later() {
    this.due ??= setTimeout(() => {
      this.due = undefined;
      if (!this.stop.signal.aborted) this.lines();
    }, 1500);
  }

  async lines() {
    try {
      const found = await api('/api/audit', { id: this.id }, this.stop.signal);
      this.audit = [...found.lines].reverse();
      this.rules = found.rules;
      this.list();
    } catch (error) {
      if (error instanceof Told && error.status === 401) this.failed(error);
    }
  }

  last() {
    return Math.max(this.frames.at(-1)?.at ?? 0, 0);
  }

  // Something new has come.
  fresh() {
    this.slider.max = this.last();
    if (this.follows) this.seek(this.last());
    if (this.over) this.follows = false;
    this.list();
  }

  seek(time) {
    if (time < this.now) {
      this.screens.clear();
      this.shown = undefined;
      this.done = 0;
    }
    this.now = time;
    while (this.done < this.frames.length && this.frames[this.done].at <= time) {
      this.apply(this.frames[this.done]);
      this.done += 1;
    }
    this.draw();
  }

  apply(frame) {
    const one = this.screens.get(frame.terminal);
    if (frame.opened !== undefined) {
      const plainOutput = frame.columns === 0;
      const screen = plainOutput ? new Screen(200, 500) : new Screen(frame.columns, frame.rows);
      this.screens.set(frame.terminal, { screen, plainOutput, command: frame.opened });
      this.shown = frame.terminal;
    } else if (frame.shown !== undefined && one) {
      let shown = bytes(frame.shown);
      // What is no terminal has no one who begins lines at their beginning.
      if (one.plainOutput) shown = Uint8Array.from([...shown].flatMap((byte) => (byte === 10 ? [13, 10] : [byte])));
      one.screen.write(shown);
      this.shown = frame.terminal;
    } else if (frame.columns && one) one.screen.resize(frame.columns, frame.rows);
  }

  draw() {
    this.slider.value = this.now;
    this.time.textContent = `${clock(this.now)} of ${clock(this.last())}`;
    const one = this.screens.get(this.shown);
    this.name.textContent = one ? plain(`terminal ${this.shown}: ${one.command || 'a shell'}`) : 'No terminal was open then.';
    const rows = one ? one.screen.runs() : [];
    this.screen.replaceChildren(...rows.flatMap((runs) => [
      ...runs.map(({ look, text }) => (look ? el('span', { className: look }, plain(text)) : plain(text))), '\n']));
    this.mark();
  }

  toggle() {
    this.follows = false;
    if (this.ticks) {
      this.rest();
      return;
    }
    if (this.now >= this.last()) this.seek(-1);
    this.play.textContent = 'Pause';
    let before = performance.now();
    this.ticks = setInterval(() => {
      const passed = ((performance.now() - before) / 1000) * Number(this.speed.value);
      before = performance.now();
      const next = this.frames[this.done]?.at ?? this.last();
      this.seek(Math.max(this.now + passed, next - PAUSE));
      if (this.done >= this.frames.length) this.rest();
    }, 50);
  }

  rest() {
    clearInterval(this.ticks);
    this.ticks = undefined;
    this.play.textContent = 'Play';
  }

  // What was asked, judged, answered and shown, in the order of time.
  list() {
    if (this.begun === undefined) return;
    const audited = this.audit.map((one) => ({
      at: (one.boot_ns - this.begun) / 1e9,
      text: line(one),
      more: decided(one, this.rules),
      request: one.request,
    }));
    const shown = this.frames.flatMap((frame) => {
      const said = frame.opened !== undefined ? `terminal ${frame.terminal} opens: ${frame.opened || 'a shell'}`
        : frame.carries !== undefined ? `channel ${frame.terminal} carries ${frame.carries}`
          : frame.closed !== undefined ? `terminal ${frame.terminal} ends${frame.closed < 0 ? '' : `: exit ${frame.closed}`}`
            : undefined;
      return said ? [{ at: frame.at, text: plain(said) }] : [];
    });
    const all = [...audited, ...shown].sort((one, other) => one.at - other.at).slice(0, 2000);
    if (all.length === this.listed) return;
    this.listed = all.length;
    this.items = all.map((one) => {
      const go = el('button', { type: 'button', 'data-item': '', 'aria-label': `Go to ${clock(Math.max(one.at, 0))}` }, clock(Math.max(one.at, 0)));
      go.addEventListener('click', () => {
        this.follows = false;
        this.rest();
        this.seek(Math.max(one.at, 0));
      });
      const text = one.more ? el('details', null, el('summary', null, one.text), one.more) : one.text;
      return { at: one.at, item: el('li', null, go, ' ', text, one.request ? [' ', link(`#/audit/${one.request}`, 'explained')] : '') };
    });
    this.timeline.replaceChildren(...this.items.map(({ item }) => item));
    this.mark();
  }

  mark() {
    const passed = (this.items ?? []).filter(({ at }) => at <= this.now);
    for (const { item } of this.items ?? []) item.removeAttribute('aria-current');
    passed.at(-1)?.item.setAttribute('aria-current', 'step');
  }
}
