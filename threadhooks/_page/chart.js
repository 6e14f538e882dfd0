"use strict";
// The data, what is in view, and how it is drawn. What the reader does with it is in page.js.

const data = JSON.parse(document.getElementById("data").textContent);
const byNumber = new Map(data.threads.map((thread) => [thread.number, thread]));
const duration = Math.max(data.duration, 1e-6);
const element = (id) => document.getElementById(id);

for (const thread of data.threads) {
  thread.begin = thread.started ?? 0;
  thread.end = Math.max(Math.min(thread.ended ?? duration, duration), thread.begin);
  thread.hooks = [];
  thread.children = [];
}
for (const thread of data.threads) byNumber.get(thread.parent)?.children.push(thread);
for (const hook of data.hooks) byNumber.get(hook.thread)?.hooks.push(hook);

// ---- Words ----

function formatDuration(seconds) {
  const digits = (value) => Number(value.toPrecision(3));
  if (seconds < 0.9995e-3) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 0.9995) return `${digits(seconds * 1e3)} ms`;
  if (seconds < 59.95) return `${digits(seconds)} s`;
  const whole = Math.round(seconds), two = (value) => String(value).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)} min` + (whole % 60 ? ` ${two(whole % 60)} s` : "");
  return `${Math.floor(whole / 3600)} h` + (whole % 3600 >= 60 ? ` ${two(Math.floor(whole / 60) % 60)} min` : "");
}

const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 43200, 86400];

function tickStep(span, room) {
  const least = span / Math.max(room, 1);
  if (least >= 1) return STEPS.find((step) => step >= least) ?? Math.ceil(least / 86400) * 86400;
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].find((factor) => factor * power >= least * 0.999) * power;
}

/** A moment, as exact as the distance to the next tick needs. */
function formatMoment(seconds, step) {
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  if (seconds >= 60) {
    const hours = Math.floor(seconds / 3600), minutes = Math.floor(seconds / 60) % 60;
    const rest = (seconds % 60).toFixed(Math.min(decimals, 6)).padStart(decimals ? decimals + 3 : 2, "0");
    return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
  }
  if (seconds === 0) return "0";
  if (step < 1 && duration < 1) {
    return step < 1e-3 && duration < 1e-3 ? `${(seconds * 1e6).toFixed(Math.max(0, decimals - 6))} µs`
      : `${(seconds * 1e3).toFixed(Math.max(0, decimals - 3))} ms`;
  }
  return `${seconds.toFixed(decimals)} s`;
}

const plural = (count, one, many = one + "s") => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
const fileName = (path) => path.split(/[\\/]/).slice(-2).join("/");
const shortPlace = (place) => `${fileName(place.file)}:${place.line}`;
const lived = (thread) => formatDuration(thread.end - thread.begin);

const raisedWords = (exception) => (exception.message ? `${exception.type}: ${exception.message}` : exception.type);

function stateWords(thread) {
  if (thread.state === "crashed" || thread.state === "ended") return thread.state;
  return thread.main ? "still running" : "never ended";
}

// ---- Where everything is ----

const view = { from: 0, to: duration };
let selected = null, hovered = null, matches = null, current = -1; // `current`: which match the search stands at
let narrow = false; // no room for a column of names
let gutter = 0, width = 0, height = 0, lanesHeight = 0;
const HEADING = 18;
const EDGE = 14; // pixels left free at both ends of the time, for what is drawn there

const crowded = data.lanes.length > 300;
const lanes = data.lanes.map((lane) => ({ ...lane, threads: lane.threads.map((number) => byNumber.get(number)), y: 0, height: 0 }));

function placeLanes() {
  let y = 6;
  lanes.forEach((lane, index) => {
    const first = lane.label !== null && lane.size > 1;
    if (index && (first || (lane.size === 1 && lanes[index - 1].size > 1))) y += 6; // a group stands apart
    if (first && narrow) y += HEADING; // its name, which has no column of its own
    lane.y = y;
    lane.height = lane.size === 1 ? 26 : crowded ? 9 : 18;
    y += lane.height;
    for (const thread of lane.threads) thread.lane = lane;
    lane.index = index;
  });
  lanesHeight = y + 6;
}

const plotWidth = () => Math.max(1, width - gutter - 2 * EDGE);
const xOf = (time) => gutter + EDGE + ((time - view.from) / (view.to - view.from)) * plotWidth();
const timeOf = (x) => view.from + ((x - gutter - EDGE) / plotWidth()) * (view.to - view.from);

function setView(from, to) {
  const span = Math.min(duration, Math.max(to - from, 1e-6)); // no thread does anything in a microsecond
  view.from = Math.min(Math.max(0, from), duration - span);
  view.to = view.from + span;
  redraw();
}

/** The index of the first thread of a lane that ends after `time`. Lives in a lane follow each other. */
function firstAfter(lane, time) {
  let low = 0, high = lane.threads.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (lane.threads[middle].end < time) low = middle + 1; else high = middle;
  }
  return low;
}

function laneAt(y) {
  let low = 0, high = lanes.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1, lane = lanes[middle];
    if (y < lane.y) high = middle - 1; else if (y >= lane.y + lane.height) low = middle + 1; else return lane;
  }
  return null;
}

/** The thread of a lane that is nearest to a moment. */
function nearest(lane, time) {
  const index = firstAfter(lane, time), after = lane.threads[index], before = lane.threads[index - 1];
  if (!after || (before && time - before.end < after.begin - time)) return before;
  return after;
}

function threadAt(x, y) {
  const lane = laneAt(y);
  if (!lane) return null;
  if (x < gutter) return lane.size === 1 ? lane.threads[0] : null;
  const thread = nearest(lane, timeOf(x));
  const reach = 5; // a life of a pixel can be pointed at, too
  return x >= xOf(thread.begin) - reach && x <= xOf(thread.end) + reach + (thread.ended === null ? EDGE : 0) ? thread : null;
}

// ---- Drawing ----

const scroller = element("scroller"), chart = element("chart"), axis = element("axis"), overview = element("overview");
const colours = {};

function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const look of ["ended", "main", "daemon", "foreign", "crashed", "leaked", "hook"]) {
    for (const part of ["", "-edge", "-text"]) colours[look + part] = style.getPropertyValue(`--${look}${part}`).trim();
  }
  for (const name of ["page", "raised", "line", "grid", "ink", "muted", "focus", "match"]) {
    colours[name] = style.getPropertyValue(`--${name}`).trim();
  }
  fonts.sans = style.getPropertyValue("--sans").trim();
  fonts.mono = style.getPropertyValue("--mono").trim();
}
const fonts = {};

function prepare(canvas, canvasWidth, canvasHeight) {
  const ratio = window.devicePixelRatio || 1;
  const pixels = [Math.round(canvasWidth * ratio), Math.round(canvasHeight * ratio)];
  if (canvas.width !== pixels[0] || canvas.height !== pixels[1]) [canvas.width, canvas.height] = pixels;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, canvasWidth, canvasHeight);
  return context;
}

/** Text, shortened to a width. Measuring is what costs in a frame, so what was found is kept. */
const shortened = new Map();
function fit(context, text, room) {
  const key = `${context.font}|${Math.floor(room)}|${text}`;
  let found = shortened.get(key);
  if (found === undefined) {
    found = text;
    if (context.measureText(text).width > room) {
      const letters = Array.from(text); // by characters: half of one is no text
      let low = 0, high = letters.length;
      while (low < high) {
        const middle = (low + high + 1) >> 1;
        if (context.measureText(letters.slice(0, middle).join("") + "…").width <= room) low = middle; else high = middle - 1;
      }
      found = low ? letters.slice(0, low).join("") + "…" : "";
    }
    if (shortened.size > 5000) shortened.clear();
    shortened.set(key, found);
  }
  return found;
}

function crashMark(context, x, y, size) {
  context.fillStyle = colours["crashed-edge"];
  context.beginPath();
  context.arc(x, y, size, 0, 7);
  context.fill();
  context.strokeStyle = colours.page;
  context.lineWidth = size / 3.6;
  const arm = size * 0.42;
  context.beginPath();
  context.moveTo(x - arm, y - arm); context.lineTo(x + arm, y + arm);
  context.moveTo(x + arm, y - arm); context.lineTo(x - arm, y + arm);
  context.stroke();
}

function openMark(context, x, y, size, colour, twice) {
  context.strokeStyle = colour;
  context.lineWidth = 2;
  context.beginPath();
  for (const offset of twice ? [0, size * 0.8] : [0]) {
    context.moveTo(x + offset, y - size); context.lineTo(x + offset + size * 0.9, y); context.lineTo(x + offset, y + size);
  }
  context.stroke();
}

function hookMark(context, x, y, size) {
  context.fillStyle = colours["hook-edge"];
  context.strokeStyle = colours.page;
  context.lineWidth = 1.5;
  context.beginPath();
  context.moveTo(x, y - size); context.lineTo(x + size, y); context.lineTo(x, y + size); context.lineTo(x - size, y);
  context.closePath();
  context.stroke();
  context.fill();
  if (size >= 6) {
    context.beginPath();
    context.moveTo(x, y - size * 0.5); context.lineTo(x, y + size * 0.1);
    context.moveTo(x, y + size * 0.4); context.lineTo(x, y + size * 0.5);
    context.stroke();
  }
}

function drawLife(context, thread, y, barHeight, left, right) {
  const { look } = thread, wide = right - left;
  if (wide < 5) { // too small for an edge: between both colours, or the shortest lives would be the loudest
    const opacity = context.globalAlpha;
    context.globalAlpha = opacity * (look === "crashed" || look === "leaked" ? 1 : 0.62);
    context.fillStyle = colours[look + "-edge"];
    context.fillRect(left, y, wide, barHeight);
    context.globalAlpha = opacity;
    return;
  }
  context.fillStyle = colours[look];
  context.fillRect(left, y, wide, barHeight);
  context.fillStyle = colours[look + "-edge"];
  if (thread.started !== null) context.fillRect(left, y, wide > 12 ? 3 : 2, barHeight); // what is older than the capture has no edge there
  context.strokeStyle = colours[look + "-edge"];
  context.lineWidth = 1;
  const from = Math.max(left, gutter - 5), to = Math.min(right, width + 5);
  if (thread.daemon && !thread.foreign && barHeight > 5) {
    context.save();
    context.beginPath(); context.rect(from, y, to - from, barHeight); context.clip();
    context.globalAlpha *= 0.35;
    context.beginPath();
    for (let x = Math.floor((from - barHeight) / 6) * 6; x < to; x += 6) { context.moveTo(x, y + barHeight); context.lineTo(x + barHeight, y); }
    context.stroke();
    context.restore();
  }
  if (thread.foreign) {
    context.setLineDash([4, 3]);
    context.beginPath();
    context.moveTo(from, y + 0.5); context.lineTo(to, y + 0.5);
    context.moveTo(from, y + barHeight - 0.5); context.lineTo(to, y + barHeight - 0.5);
    context.stroke();
    context.setLineDash([]);
  }
  if (thread.ended !== null) context.fillRect(right - 1, y, 1, barHeight);
  if (thread.run_ended !== null && thread.ended !== null) { // from the end of run() to the thread's end: its hooks run
    const tail = xOf(thread.run_ended);
    if (right - tail > 2) {
      context.fillStyle = colours.page;
      context.globalAlpha *= 0.6;
      context.fillRect(tail, y + 1, right - tail - 1, barHeight - 2);
      context.globalAlpha /= 0.6;
    }
  }
}

/** What a life says in its lane, where there is room. */
function lifeWords(thread) {
  const words = [];
  // In a lane of a group, the function that Python puts into a name is the name of the group.
  if (narrow || thread.lane.size > 1) words.push(thread.lane.size > 1 ? thread.name.replace(/^(Thread-\d+) \(.*\)$/, "$1") : thread.name);
  if (thread.lane.size === 1 && (thread.started !== null || thread.ended !== null)) words.push(lived(thread));
  if (thread.lane.size === 1 && thread.exception) words.push(thread.exception.type);
  if (thread.lane.size === 1 && thread.ended === null && !thread.main && !thread.exception) words.push(thread.now ? `never ended, now at ${shortPlace(thread.now)}` : "never ended");
  return words.join(" · ");
}

function drawWords(context, thread, y, barHeight, left, right, markRoom) {
  if (barHeight < 11) return;
  const words = lifeWords(thread);
  context.font = `${barHeight > 15 ? 11.5 : 10.5}px ${fonts.sans}`;
  const middle = y + barHeight / 2 + 0.5, inside = Math.min(right, width) - Math.max(left, gutter) - 14;
  const start = Math.max(left, gutter) + 8, needed = context.measureText(words).width;
  context.fillStyle = colours.ink;
  if (needed <= inside) context.fillText(words, start, middle);
  else if (thread.lane.size > 1) { if (inside > 90) context.fillText(fit(context, words, inside), start, middle); }
  // A lane of one thread has nothing else in it, so the words may stand beside a short life.
  else if (right + markRoom + needed < width - 4) context.fillText(words, Math.max(right, gutter) + markRoom, middle);
  else if (left - needed - 10 > gutter) context.fillText(words, Math.min(left, width) - needed - 8, middle);
  else if (inside > 30) context.fillText(fit(context, words, inside), start, middle);
}

function outline(context, thread, top, colour) {
  const lane = thread.lane, left = Math.max(xOf(thread.begin), gutter - 9), right = Math.min(xOf(thread.end), width + 9);
  const pad = lane.height > 12 ? 2 : 0;
  context.strokeStyle = colour;
  context.lineWidth = 2;
  context.strokeRect(left - 2, lane.y - top + pad, Math.max(right - left, 2) + 4, lane.height - 2 * pad);
}

/** A line from the life of a parent down to where a child of it begins. */
function connect(context, child, top, colour, thickness) {
  const parent = byNumber.get(child.parent);
  if (!parent || child.started === null || parent.lane === child.lane) return;
  const x = Math.round(xOf(child.begin)) + 0.5;
  if (x < gutter || x > width) return;
  const down = parent.lane.y < child.lane.y;
  const from = parent.lane.y - top + parent.lane.height / 2 + (down ? 1 : -1) * Math.min(9, parent.lane.height / 2 - 2);
  context.strokeStyle = colour;
  context.lineWidth = thickness;
  context.beginPath();
  context.moveTo(x, from);
  context.lineTo(x, child.lane.y - top + child.lane.height / 2);
  context.stroke();
  context.fillStyle = colour;
  context.beginPath();
  context.arc(x, from, thickness + 1, 0, 7);
  context.fill();
}

function drawChart() {
  const context = prepare(chart, width, height), top = scroller.scrollTop;
  context.textBaseline = "middle";
  const shown = [];
  for (let index = firstLane(top); index < lanes.length && lanes[index].y < top + height + HEADING; index++) shown.push(lanes[index]);

  context.save();
  context.beginPath(); context.rect(gutter, 0, width - gutter, height); context.clip();
  context.fillStyle = colours.grid;
  for (const tick of ticks().list) context.fillRect(Math.round(xOf(tick)), 0, 1, height);
  const focus = hovered ?? selected;
  if (focus) {
    context.fillStyle = colours.raised;
    context.fillRect(gutter, focus.lane.y - top, width, focus.lane.height);
  }

  if (lanes.length <= 150 && data.threads.length <= 400) {
    for (const thread of data.threads) if (thread.lane.size === 1) connect(context, thread, top, colours.line, 1);
  }
  const marks = [], words = [];
  for (const lane of shown) {
    const pad = lane.height > 20 ? 4 : lane.height > 12 ? 2 : 1;
    const y = lane.y - top + pad, barHeight = lane.height - 2 * pad;
    let drawnTo = -Infinity;
    for (let index = firstAfter(lane, timeOf(gutter)); index < lane.threads.length; index++) {
      const thread = lane.threads[index];
      let left = xOf(thread.begin);
      if (left > width) break;
      let right = Math.max(xOf(thread.end), left + 1.5);
      if (right - left > 4 && lane.size > 1) right -= 1; // so that lives that touch can be told apart
      // Where hundreds share a pixel the first of them is drawn, and each that needs a look.
      const plain = thread.look !== "crashed" && thread.look !== "leaked";
      if (right <= drawnTo && plain && !thread.hooks.length) continue;
      if (plain) left = Math.min(Math.max(left, drawnTo), right - 0.5);
      const dim = matches && !thread.matches;
      if (!plain || right > drawnTo) {
        context.globalAlpha = dim ? 0.15 : 1;
        drawLife(context, thread, y, barHeight, left, right);
        context.globalAlpha = 1;
        drawnTo = Math.max(drawnTo, right);
      }
      if (!dim && (right - left > 40 || lane.size === 1)) words.push([thread, y, barHeight, left, right]);
      if (!dim) marks.push([thread, y + barHeight / 2, Math.min(7, Math.max(3.5, barHeight / 2)), left, right]);
    }
  }
  if (focus) {
    connect(context, focus, top, colours[focus.look + "-edge"], 1.5);
    for (const child of focus.children.slice(0, 500)) connect(context, child, top, colours[child.look + "-edge"], 1);
  }
  if (matches && matches[current]) outline(context, matches[current], top, colours.match);
  if (selected) outline(context, selected, top, colours.focus);
  if (hovered && hovered !== selected) outline(context, hovered, top, colours.muted);
  const seen = new Set();
  const free = (kind, x, y) => { // one mark a few pixels is as plain as ten
    const key = `${kind}${Math.round(x / 6)},${Math.round(y)}`;
    return !seen.has(key) && seen.add(key);
  };
  for (const [thread, y, barHeight, left, right] of words) {
    const failed = thread.hooks.length > 0, room = thread.look === "crashed" || failed ? 16 : thread.ended === null ? 18 : 6;
    drawWords(context, thread, y, barHeight, left, right, room);
  }
  for (const [thread, y, size, , right] of marks) {
    if (thread.ended === null && free("open", right, y)) {
      openMark(context, right + 1.5, y, Math.min(size, 5), colours[thread.look + "-edge"], !thread.main);
    }
    if (thread.exception && free("crash", right, y)) crashMark(context, right, y, size);
    thread.hooks.forEach((hook) => {
      // Where a hook fails while a crashed thread is torn down, both marks want the same place.
      let x = xOf(Math.min(Math.max(hook.time, thread.begin), duration));
      if (thread.exception && Math.abs(x - right) < 2 * size) x = right - 2 * size - 2;
      if (free("hook", x, y)) hookMark(context, x, y, size);
    });
  }
  if (narrow) {
    context.font = `11px ${fonts.sans}`;
    for (const lane of shown) {
      if (lane.label === null || lane.size === 1) continue;
      context.fillStyle = colours.muted;
      context.fillText(fit(context, `${lane.label} ×${lane.size.toLocaleString("en")}`, width - 2 * EDGE), EDGE, lane.y - top - HEADING / 2 + 1);
    }
  }
  context.restore();

  if (gutter) drawNames(context, shown, top);
  if (!data.threads.length) {
    context.fillStyle = colours.muted;
    context.font = `13px ${fonts.sans}`;
    context.textAlign = "center";
    context.fillText("No thread was seen.", width / 2, height / 2);
    context.textAlign = "start";
  }
}

function firstLane(top) {
  let low = 0, high = lanes.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (lanes[middle].y + lanes[middle].height < top) low = middle + 1; else high = middle;
  }
  return low;
}

function drawNames(context, shown, top) {
  context.fillStyle = colours.page;
  context.fillRect(0, 0, gutter, height);
  context.fillStyle = colours.line;
  context.fillRect(gutter - 1, 0, 1, height);
  const focus = hovered ?? selected;
  for (const lane of shown) {
    if (focus && focus.lane === lane) {
      context.fillStyle = colours.raised;
      context.fillRect(0, lane.y - top, gutter - 1, lane.height);
    }
    if (lane.size > 1) { // a bracket holds the lanes of a group together
      context.fillStyle = colours.line;
      context.fillRect(gutter - 7, lane.y - top, 2, lane.height);
    }
    if (lane.label !== null) drawName(context, lane, lane.y - top + Math.max(lane.height / 2, 6) + 0.5);
  }
  if (shown.length && shown[0].label === null) { // inside a group whose name has been scrolled away
    let index = shown[0].index;
    while (lanes[index].label === null) index--;
    context.fillStyle = colours.page;
    context.fillRect(0, 0, gutter - 8, 18);
    drawName(context, lanes[index], 9.5);
  }
}

const indentOf = (lane) => 16 + Math.min(lane.depth, 8) * 14;

function tagOf(lane) {
  const only = lane.size === 1 ? lane.threads[0] : null;
  return only ? (only.foreign ? "foreign" : only.daemon ? "daemon" : "") : `×${lane.size.toLocaleString("en")}`;
}

/** What the column of names needs. Of very many, the first ones must do. */
function namesWidth() {
  const context = chart.getContext("2d");
  context.font = `600 12.5px ${fonts.sans}`;
  const named = lanes.filter((lane) => lane.label !== null).slice(0, 300);
  return Math.max(0, ...named.map((lane) => indentOf(lane) + context.measureText(`${lane.label.slice(0, 60)}${tagOf(lane)}`).width + 28));
}

function drawName(context, lane, middle) {
  const indent = indentOf(lane), only = lane.size === 1 ? lane.threads[0] : null;
  if (lane.depth) {
    context.strokeStyle = colours.line;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(indent - 9.5, middle - 12); context.lineTo(indent - 9.5, Math.round(middle) + 0.5); context.lineTo(indent - 4, Math.round(middle) + 0.5);
    context.stroke();
  }
  const tag = tagOf(lane);
  context.font = `11px ${fonts.sans}`;
  const tagWidth = tag ? context.measureText(tag).width : 0;
  context.fillStyle = only ? colours[only.look + "-text"] : colours.muted;
  context.fillText(tag, gutter - 13 - tagWidth, middle);
  context.font = `${only && only.main ? "600 " : ""}12.5px ${fonts.sans}`;
  context.fillStyle = only && ["crashed", "leaked"].includes(only.look) ? colours[only.look + "-text"] : colours.ink;
  context.globalAlpha = matches && !lane.found ? 0.4 : 1;
  context.fillText(fit(context, lane.label, gutter - indent - 24 - tagWidth), indent, middle);
  context.globalAlpha = 1;
}

function ticks() {
  const step = tickStep(view.to - view.from, plotWidth() / (narrow ? 76 : 100)), list = [];
  for (let index = Math.ceil(view.from / step - 1e-9); index * step <= view.to * (1 + 1e-12); index++) list.push(index * step);
  return { step, list };
}

function drawAxis() {
  const context = prepare(axis, axis.clientWidth, axis.clientHeight), { step, list } = ticks();
  context.textBaseline = "middle";
  context.font = `11px ${fonts.sans}`;
  for (const tick of list) {
    const text = formatMoment(tick, step), x = xOf(tick), room = context.measureText(text).width;
    context.fillStyle = colours.line;
    context.fillRect(Math.round(x), 18, 1, 8);
    context.fillStyle = colours.muted;
    context.fillText(text, Math.max(gutter + 2, Math.min(x - room / 2, width - room - 2)), 10);
  }
  if (gutter) {
    context.fillStyle = colours.muted;
    context.fillText(`${formatDuration(view.to - view.from)} in view`, 16, 13);
  }
}

const most = data.alive.reduce((best, step) => (step[1] > best[1] ? step : best), [0, 0]);
const overviewX = (time) => gutter + EDGE + (time / duration) * plotWidth();

function drawOverview() {
  const tall = overview.clientHeight, context = prepare(overview, overview.clientWidth, tall);
  const base = tall - 6, room = base - (gutter ? 10 : 18), yOf = (count) => base - (count / Math.max(most[1], 1)) * room;
  const drawArea = () => {
    context.beginPath();
    context.moveTo(overviewX(0), base);
    let y = base, column = -1, peak = base;
    for (const [time, count] of data.alive) {
      // Of the steps within a pixel only the highest can be seen, and it must be.
      const x = overviewX(Math.min(time, duration)), next = yOf(count);
      if (Math.floor(x) === column) { peak = Math.min(peak, next); y = next; continue; }
      if (column >= 0) { context.lineTo(column + 0.5, peak); context.lineTo(column + 1, y); }
      context.lineTo(x, y); context.lineTo(x, next);
      column = Math.floor(x); peak = y = next;
    }
    if (column >= 0) { context.lineTo(column + 0.5, peak); context.lineTo(column + 1, y); }
    context.lineTo(overviewX(duration), y);
    context.lineTo(overviewX(duration), base);
    context.closePath();
  };
  drawArea();
  context.fillStyle = colours.ended;
  context.fill();
  context.strokeStyle = colours["ended-edge"];
  context.lineWidth = 1;
  context.stroke();
  const marked = new Set();
  const once = (kind, x) => { const key = kind + Math.round(x / 8); return !marked.has(key) && marked.add(key); };
  for (const thread of data.threads) {
    if (thread.exception && once("c", overviewX(thread.end))) crashMark(context, overviewX(thread.end), base, 4.5);
  }
  for (const hook of data.hooks) if (once("h", overviewX(hook.time))) hookMark(context, overviewX(hook.time), base - 10, 4.5);

  const left = overviewX(view.from), right = overviewX(view.to), whole = view.to - view.from >= duration * 0.9999;
  if (!whole) {
    context.fillStyle = colours.page;
    context.globalAlpha = 0.72;
    context.fillRect(gutter, 0, left - gutter, tall);
    context.fillRect(right, 0, width - right, tall);
    context.globalAlpha = 1;
    context.strokeStyle = colours.focus;
    context.lineWidth = 1.5;
    context.strokeRect(left, 1, Math.max(right - left, 2), tall - 2);
    context.fillStyle = colours.focus;
    for (const x of [left, right]) context.fillRect(x - 2, tall / 2 - 9, 4, 18);
  }
  context.textBaseline = "middle";
  context.fillStyle = colours.muted;
  context.font = `11px ${fonts.sans}`;
  if (gutter) {
    context.fillStyle = colours.page;
    context.fillRect(0, 0, gutter, tall);
    context.fillStyle = colours.muted;
    context.fillText("Alive", 16, tall / 2 - 7);
    context.fillText(`at most ${most[1].toLocaleString("en")}`, 16, tall / 2 + 8);
  } else {
    context.fillText(`at most ${most[1].toLocaleString("en")} alive`, 4, 8);
  }
}

let covered = 0; // pixels of the lanes that lie under the panel, where that is a sheet
function makeRoom(pixels) {
  covered = pixels;
  element("spacer").style.height = `${Math.max(0, lanesHeight + covered - height)}px`; // so they can be scrolled from under it
}

let waiting = false;
function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    drawOverview();
    drawAxis();
    drawChart();
  });
}

function resize() {
  width = scroller.clientWidth;
  height = scroller.clientHeight;
  narrow = element("timeline").clientWidth < 620;
  placeLanes();
  gutter = narrow ? 0 : Math.round(Math.min(300, Math.max(150, width * 0.3), Math.max(150, namesWidth())));
  chart.style.width = `${width}px`;
  chart.style.height = `${height}px`;
  makeRoom(covered);
  redraw();
}
