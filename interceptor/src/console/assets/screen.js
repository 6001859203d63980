// A terminal's screen: what a program showed becomes rows of letters, as far as shells and what is run in
// them use it. Nothing that is shown does anything but that: no title, no link, no answer.

const LONGEST = 4096;

const blank = () => ({ sign: ' ', look: '' });

export class Screen {
  constructor(columns, rows) {
    this.columns = Math.min(Math.max(columns, 1), 500);
    this.rows = Math.min(Math.max(rows, 1), 500);
    this.text = new TextDecoder();
    this.reset();
  }

  reset() {
    this.lines = Array.from({ length: this.rows }, () => []);
    this.other = undefined;
    this.column = 0;
    this.row = 0;
    this.top = 0;
    this.bottom = this.rows - 1;
    this.saved = [0, 0];
    this.style = {};
    this.state = 'ground';
    this.sequence = '';
  }

  resize(columns, rows) {
    this.columns = Math.min(Math.max(columns, 1), 500);
    const wanted = Math.min(Math.max(rows, 1), 500);
    while (this.lines.length > wanted && this.row > 0 && this.lines.length > this.row + 1) this.lines.pop();
    while (this.lines.length > wanted) {
      this.lines.shift();
      this.row = Math.max(this.row - 1, 0);
    }
    while (this.lines.length < wanted) this.lines.push([]);
    this.rows = wanted;
    this.top = 0;
    this.bottom = wanted - 1;
    this.row = Math.min(this.row, this.bottom);
    this.column = Math.min(this.column, this.columns - 1);
  }

  write(bytes) {
    for (const sign of this.text.decode(bytes, { stream: true })) this.take(sign);
  }

  take(sign) {
    if (sign === '\u0018' || sign === '\u001a') this.state = 'ground';
    else if (this.state === 'text') this.skip(sign);
    else if (sign === '\u001b') this.begin('escape');
    else if (sign < ' ') this.control(sign);
    else if (this.state === 'escape') this.escape(sign);
    else if (this.state === 'charset') this.state = 'ground';
    else if (this.state === 'sequence') this.more(sign);
    else this.put(sign);
  }

  begin(state) {
    this.state = state;
    this.sequence = '';
  }

  // A text for the terminal itself, such as a title, to its end.
  skip(sign) {
    if (sign === '\u0007' || (sign === '\\' && this.sequence.endsWith('\u001b'))) this.state = 'ground';
    else this.sequence = sign;
  }

  escape(sign) {
    this.state = 'ground';
    if (sign === '[') this.begin('sequence');
    else if (']PX^_'.includes(sign)) this.begin('text');
    else if ('()*+#% '.includes(sign)) this.begin('charset');
    else if (sign === '7') this.saved = [this.column, this.row];
    else if (sign === '8') [this.column, this.row] = this.saved;
    else if (sign === 'D') this.down();
    else if (sign === 'E') {
      this.column = 0;
      this.down();
    } else if (sign === 'M') this.up();
    else if (sign === 'c') this.reset();
  }

  control(sign) {
    if (sign === '\r') this.column = 0;
    else if ('\n\u000b\u000c'.includes(sign)) this.down();
    else if (sign === '\b') this.column = Math.max(this.column - 1, 0);
    else if (sign === '\t') this.column = Math.min((Math.floor(this.column / 8) + 1) * 8, this.columns - 1);
  }

  more(sign) {
    if (sign < '@') {
      this.sequence += sign;
      if (this.sequence.length > LONGEST) this.state = 'ground';
      return;
    }
    this.state = 'ground';
    this.act(sign, this.sequence);
  }

  put(sign) {
    if (/\p{Mn}/u.test(sign)) return;
    if (this.column >= this.columns) {
      this.column = 0;
      this.down();
    }
    const line = this.lines[this.row];
    while (line.length < this.column) line.push(blank());
    line[this.column] = { sign, look: this.look() };
    this.column += 1;
  }

  down() {
    if (this.row === this.bottom) {
      this.lines.splice(this.top, 1);
      this.lines.splice(this.bottom, 0, []);
    } else this.row = Math.min(this.row + 1, this.rows - 1);
  }

  up() {
    if (this.row === this.top) {
      this.lines.splice(this.bottom, 1);
      this.lines.splice(this.top, 0, []);
    } else this.row = Math.max(this.row - 1, 0);
  }

  act(final, sequence) {
    const numbers = sequence.replace(/^[?>=]/, '').split(/[;:]/).map((number) => Math.min(Number.parseInt(number, 10) || 0, 9999));
    const [first, second] = numbers;
    const times = Math.max(first, 1);
    const line = this.lines[this.row];
    const at = (column, row) => {
      this.column = Math.min(Math.max(column, 0), this.columns - 1);
      this.row = Math.min(Math.max(row, 0), this.rows - 1);
    };
    switch (final) {
      case 'A': return at(this.column, this.row - times);
      case 'B': return at(this.column, this.row + times);
      case 'C': return at(this.column + times, this.row);
      case 'D': return at(this.column - times, this.row);
      case 'E': return at(0, this.row + times);
      case 'F': return at(0, this.row - times);
      case 'G': return at(times - 1, this.row);
      case 'd': return at(this.column, times - 1);
      case 'H': case 'f': return at(Math.max(second ?? 1, 1) - 1, times - 1);
      case 'J': return this.clear(first);
      case 'K': return this.clearLine(first);
      case '@': line.splice(this.column, 0, ...Array.from({ length: Math.min(times, this.columns) }, blank));
        line.length = Math.min(line.length, this.columns);
        return undefined;
      case 'P': line.splice(this.column, times);
        return undefined;
      case 'X': for (let column = this.column; column < Math.min(this.column + times, line.length); column += 1) line[column] = blank();
        return undefined;
      case 'L': case 'M': return this.shift(final === 'L', times);
      case 'S': case 'T': return this.scroll(final === 'S', times);
      case 'm': return this.paint(numbers);
      case 'r': this.top = Math.min(times - 1, this.rows - 1);
        this.bottom = Math.min(Math.max((second || this.rows) - 1, this.top), this.rows - 1);
        return at(0, 0);
      case 's': this.saved = [this.column, this.row];
        return undefined;
      case 'u': return at(...this.saved);
      case 'h': case 'l': return this.alternate(sequence, numbers, final === 'h');
      default: return undefined;
    }
  }

  // Programs that fill the screen leave what was there as it was.
  alternate(sequence, numbers, on) {
    if (!sequence.startsWith('?') || !numbers.some((number) => [47, 1047, 1049].includes(number))) return;
    if (on === (this.other !== undefined)) return;
    if (on) {
      this.other = [this.lines, this.column, this.row];
      this.lines = Array.from({ length: this.rows }, () => []);
    } else {
      [this.lines, this.column, this.row] = this.other;
      this.other = undefined;
      this.resize(this.columns, this.rows);
    }
  }

  clear(which) {
    if (which === 0) this.clearLine(0);
    if (which === 1) this.clearLine(1);
    const from = which === 0 ? this.row + 1 : 0;
    const to = which === 1 ? this.row : this.rows;
    for (let row = from; row < to; row += 1) this.lines[row] = [];
  }

  clearLine(which) {
    const line = this.lines[this.row];
    if (which === 0) line.length = Math.min(line.length, this.column);
    else if (which === 2) line.length = 0;
    else for (let column = 0; column <= Math.min(this.column, line.length - 1); column += 1) line[column] = blank();
  }

  shift(opens, times) {
    if (this.row < this.top || this.row > this.bottom) return;
    for (let time = 0; time < Math.min(times, this.rows); time += 1) {
      this.lines.splice(opens ? this.bottom : this.row, 1);
      this.lines.splice(opens ? this.row : this.bottom, 0, []);
    }
  }

  scroll(isUp, times) {
    for (let time = 0; time < Math.min(times, this.rows); time += 1) {
      this.lines.splice(isUp ? this.top : this.bottom, 1);
      this.lines.splice(isUp ? this.bottom : this.top, 0, []);
    }
  }

  paint(numbers) {
    const names = { 1: 'bold', 2: 'faint', 3: 'italic', 4: 'under', 7: 'turned' };
    for (let at = 0; at < numbers.length; at += 1) {
      const number = numbers[at];
      if (number === 0) this.style = {};
      else if (names[number]) this.style[names[number]] = true;
      else if (number === 22) this.style.bold = this.style.faint = false;
      else if (number === 23) this.style.italic = false;
      else if (number === 24) this.style.under = false;
      else if (number === 27) this.style.turned = false;
      else if (number >= 30 && number <= 37) this.style.ink = number - 30;
      else if (number >= 90 && number <= 97) this.style.ink = number - 82;
      else if (number >= 40 && number <= 47) this.style.paper = number - 40;
      else if (number >= 100 && number <= 107) this.style.paper = number - 92;
      else if (number === 39) this.style.ink = undefined;
      else if (number === 49) this.style.paper = undefined;
      else if (number === 38 || number === 48) {
        const [colour, used] = named(numbers.slice(at + 1));
        this.style[number === 38 ? 'ink' : 'paper'] = colour;
        at += used;
      }
    }
  }

  look() {
    const { ink, paper } = this.style;
    const words = ['bold', 'faint', 'italic', 'under', 'turned'].filter((name) => this.style[name]);
    if (ink !== undefined) words.push(`ink${ink}`);
    if (paper !== undefined) words.push(`paper${paper}`);
    return words.join(' ');
  }

  // The rows that have something, each as runs of letters that look alike.
  runs() {
    let last = this.lines.length - 1;
    while (last > 0 && this.lines[last].length === 0) last -= 1;
    return this.lines.slice(0, last + 1).map((line) => {
      const runs = [];
      for (const { sign, look } of line) {
        const run = runs.at(-1);
        if (run && run.look === look) run.text += sign;
        else runs.push({ look, text: sign });
      }
      return runs;
    });
  }
}

// A colour of 256 or of all, as the nearest of sixteen; and how many numbers said it.
function named([kind, ...rest]) {
  const nearest = (red, green, blue) => {
    const bright = Math.max(red, green, blue) > 191 ? 8 : 0;
    const half = bright ? 127 : 63;
    return bright + (red > half ? 1 : 0) + (green > half ? 2 : 0) + (blue > half ? 4 : 0);
  };
  if (kind === 2) return [nearest(...[0, 1, 2].map((at) => rest[at] ?? 0)), 4];
  if (kind !== 5) return [undefined, 1];
  const number = rest[0] ?? 0;
  if (number < 16) return [number, 2];
  if (number > 231) return [[0, 8, 7, 15][Math.min(Math.floor((number - 232) / 6), 3)], 2];
  const part = (size) => (Math.floor((number - 16) / size) % 6) * 51;
  return [nearest(part(36), part(6), part(1)), 2];
}
