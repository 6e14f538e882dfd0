"use strict";
// What the reader does: select, search, zoom, read the table. All text from the program goes in as text, never as HTML.

/** An element with attributes and children; children that are strings become text. */
function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS("http://www.w3.org/2000/svg", "use"));
  svg.firstChild.setAttribute("href", `#icon-${name}`);
  return svg;
}

const crashed = data.threads.filter((thread) => thread.state === "crashed");
const leaked = data.threads.filter((thread) => thread.state === "leaked");
// Those that may stay come last.
const left = [...leaked, ...data.threads.filter((thread) => thread.ended === null && !thread.main && thread.state !== "leaked")];
const leftLook = leaked.length ? "leaked" : "muted";
const sheet = matchMedia("(max-width: 960px)"); // the panel lies over the lanes, and opens on demand
const calm = matchMedia("(prefers-reduced-motion: reduce)");

// ---- The head of the page ----

function fillHead() {
  element("program").textContent = element("program").title = data.program || "an interactive session";
  const began = new Date(data.began * 1000);
  element("about").textContent = `Python ${data.python} · process ${data.pid} · ${began.toLocaleString()}`;
  const figure = (number, words) => make("li", {}, make("b", {}, number), words);
  const finding = (kind, count, words, look = kind) => make("li", {}, make("button", { type: "button", class: look, onclick: () => nextFinding(kind) },
    make("b", {}, icon(kind), count.toLocaleString("en")), words));
  const others = data.threads.filter((thread) => !thread.main).length;
  const longest = data.threads.reduce((best, thread) => (thread.main || (best && best.end - best.begin >= thread.end - thread.begin) ? best : thread), null);
  element("figures").append(...[
    figure(others.toLocaleString("en"), `${others === 1 ? "thread" : "threads"} besides main`),
    figure((data.summary?.most_at_once ?? most[1]).toLocaleString("en"), "at one time"),
    longest && figure(lived(longest), "longest life"),
    figure(formatDuration(data.duration), "captured"),
    crashed.length && finding("crashed", crashed.length, "crashed"),
    left.length && finding("leaked", left.length, "never ended", leftLook),
    data.hooks.length && finding("hook", data.hooks.length, data.hooks.length === 1 ? "hook failed" : "hooks failed"),
  ].filter(Boolean));
  if (data.left_out) {
    element("left-out").hidden = false;
    const one = data.left_out === 1, unseen = (data.summary?.crashed ?? 0) - crashed.length;
    element("left-out").textContent = `${plural(data.left_out, "more thread")} ${one ? "is" : "are"} not shown`
      + `${data.limit === null ? "" : `: of those that ended, the capture has kept ${data.limit.toLocaleString("en")}`}.`
      + `${unseen > 0 ? ` Of those that are missing, ${unseen.toLocaleString("en")} crashed.` : ""}`;
  }
  overview.setAttribute("aria-label", `Threads alive besides the main one, over ${formatDuration(data.duration)}: at most ${most[1]}, at ${formatDuration(most[0])}`);
}

function fillLegend() {
  const has = (test) => data.threads.some(test);
  const swatch = (look, extra = "", mark = null) => {
    const made = make("span", { class: `swatch ${look} ${extra}`, "aria-hidden": true }, ...(mark ? [mark] : []));
    made.style.backgroundColor = `var(--${look})`;
    made.style.borderColor = `var(--${look}-edge)`;
    return made;
  };
  const items = [
    [has((t) => t.look === "ended"), swatch("ended"), "ended"],
    [has((t) => t.main), swatch("main", "open"), "main"],
    [has((t) => t.look === "daemon"), swatch("daemon", "hatched"), "daemon"],
    [has((t) => t.look === "foreign"), swatch("foreign", "dashed"), "foreign"],
    [crashed.length, swatch("crashed", "", icon("crashed")), "crashed"],
    [left.some((t) => t.look === "daemon"), swatch("daemon", "hatched open", icon("leaked")), "daemon, never ended"],
    [leaked.length, swatch("leaked", "open", icon("leaked")), "never ended"],
    [data.hooks.length, make("span", { class: "hook" }, icon("hook")), "hook failed"],
    [has((t) => t.run_ended !== null && t.ended > t.run_ended), swatch("ended", "tail"), "thread teardown"],
  ];
  element("legend").append(...items.filter(([there]) => there).map(([, mark, words]) => make("li", {}, mark, words)));
}

// ---- The panel ----

const placeWords = (place) => make("span", { class: "code" }, `${place.file}:${place.line}`, place.function ? ` in ${place.function}` : "");
const threadLink = (thread) => make("button", { type: "button", class: "link code", onclick: () => select(thread, true) }, thread.name);

function badges(thread) {
  const mark = thread.state === "crashed" || thread.state === "leaked" ? icon(thread.state) : null;
  const kinds = [thread.main && "main", thread.foreign ? "foreign" : thread.daemon && "daemon"].filter(Boolean);
  return [make("span", { class: `badge ${thread.look}` }, mark, stateWords(thread)), ...kinds.map((kind) => make("span", { class: `badge ${kind}` }, kind))];
}

function describe(thread) {
  const list = make("dl");
  const row = (term, ...words) => list.append(make("dt", {}, term), make("dd", {}, ...words));
  const exact = (time) => formatMoment(time, Math.max(duration / 1e5, 1e-6));
  if (thread.target) row("Target", make("span", { class: "code" }, thread.target));
  row("Started", thread.started === null ? "before the capture" : `at ${exact(thread.started)}`);
  if (thread.ended !== null) row("Ended", `at ${exact(thread.ended)}`);
  row("Life", thread.started === null || thread.ended === null ? `${lived(thread)} in the picture` : lived(thread));
  if (thread.run_ended !== null && thread.ended > thread.run_ended) row("Teardown", formatDuration(thread.ended - thread.run_ended));
  const parent = byNumber.get(thread.parent);
  if (parent) row("Started by", threadLink(parent));
  else if (thread.parent !== null) row("Started by", "a thread that was left out");
  if (thread.started_at) row(parent ? "at" : "Started at", placeWords(thread.started_at));
  if (thread.exception) {
    const { exception } = thread;
    row("Raised", make("span", { class: "code crashed" }, raisedWords(exception)));
    if (exception.file) row("at", placeWords(exception));
  }
  if (thread.now) row("Now at", placeWords(thread.now));
  for (const hook of thread.hooks) row("Hook failed", ...hookWords(hook));
  row("Ident", make("span", { class: "code" }, String(thread.ident), thread.native_id === null ? "" : `, native ${thread.native_id}`));
  if (thread.children.length) {
    const few = thread.children.slice(0, 20);
    row("Children", plural(thread.children.length, "thread"), ...few.flatMap((child) => [make("br"), threadLink(child)]),
      ...(few.length < thread.children.length ? [make("br"), `and ${(thread.children.length - few.length).toLocaleString("en")} more`] : []));
  }
  return list;
}

const hookWords = (hook) => [make("span", { class: "code hook" }, hook.name), hook.owner ? ` of ${hook.owner}` : "", make("br"), make("span", { class: "code" }, hook.error)];

function openPanel(open) {
  const panel = element("panel");
  panel.classList.toggle("open", open);
  makeRoom(open && sheet.matches ? Math.max(0, scroller.getBoundingClientRect().bottom - panel.getBoundingClientRect().top) : 0);
}

function fillPanel() {
  const panel = element("panel"), close = make("button", { type: "button", "aria-label": "Close details", onclick: () => { select(null); scroller.focus(); } }, "×");
  openPanel(false);
  if (selected) {
    panel.replaceChildren(make("div", { class: "top" }, ...badges(selected), close), make("h2", {}, selected.name), describe(selected));
    panel.scrollTop = 0;
    openPanel(true);
    return;
  }
  const section = (kind, title, things, line, look = kind) => {
    if (!things.length) return [];
    const few = things.slice(0, 30), rest = things.length - few.length;
    return [make("h3", { class: look }, icon(kind), title), ...few.map(line), rest ? make("p", { class: "quiet" }, `and ${rest.toLocaleString("en")} more: they are in the table`) : null];
  };
  const finding = (thread, ...lines) => make("button", { type: "button", class: "finding", onclick: () => thread && select(thread, true) },
    make("b", {}, thread ? thread.name : "a thread that was left out"), ...lines.filter(Boolean).map((line) => make("span", {}, line)));
  const found = [
    ...section("crashed", plural(crashed.length, "thread") + " crashed", crashed, (thread) => finding(thread,
      raisedWords(thread.exception), thread.exception.file && `at ${shortPlace(thread.exception)} in ${thread.exception.function}`)),
    ...section("leaked", plural(left.length, "thread") + " never ended", left, (thread) => finding(thread,
      thread.foreign ? "foreign" : thread.daemon ? "daemon" : thread.started === null && "older than the capture",
      thread.started_at && `started at ${shortPlace(thread.started_at)} in ${thread.started_at.function}`, thread.now && `now at ${shortPlace(thread.now)} in ${thread.now.function}`), leftLook),
    ...section("hook", plural(data.hooks.length, "hook") + " failed", data.hooks, (hook) => finding(byNumber.get(hook.thread),
      `${hook.name}${hook.owner ? ` of ${hook.owner}` : ""}`, hook.error)),
  ].filter(Boolean);
  if (!data.threads.length) found.push(make("p", { class: "quiet" }, "Nothing was captured."));
  else if (!found.length) {
    found.push(make("h3", { class: "ended" }, icon("fine"), "Nothing to report"),
      make("p", { class: "quiet" }, "Every thread ended, none crashed, and no hook failed."));
  }
  const longest = data.threads.filter((thread) => !thread.main && thread.state === "ended").sort((a, b) => b.end - b.begin - (a.end - a.begin)).slice(0, 5);
  if (longest.length > 1) {
    found.push(make("h3", {}, "Longest lives"), ...longest.map((thread) => finding(thread, `${lived(thread)}${thread.target ? ` in ${thread.target}` : ""}`)));
  }
  panel.replaceChildren(...found);
}

// ---- To select ----

/** Select a thread, and bring it into view where it isn't. */
function select(thread, show = false) {
  selected = thread;
  if (show) hover(null); // what the pointer happens to lie on is of no interest to somebody who uses the keyboard
  if (thread && show) {
    if (element("timeline").hidden) showView("timeline");
    fillPanel(); // first, for the sheet that it may open covers lanes
    reveal(thread);
  } else fillPanel();
  const option = element("current");
  if (thread) {
    option.textContent = spoken(thread);
    option.setAttribute("aria-posinset", thread.lane.index + 1);
    option.setAttribute("aria-setsize", lanes.length);
    scroller.setAttribute("aria-activedescendant", "current");
    element("live").textContent = spoken(thread);
  } else {
    scroller.removeAttribute("aria-activedescendant");
    element("live").textContent = "";
  }
  redraw();
}

function spoken(thread) {
  const parent = byNumber.get(thread.parent);
  return [thread.name, thread.daemon && "daemon", thread.foreign && "foreign", stateWords(thread), `lived ${lived(thread)}`,
    thread.exception && `raised ${raisedWords(thread.exception)}`, parent && `started by ${parent.name}`,
    thread.hooks.length && plural(thread.hooks.length, "failed hook"), `lane ${thread.lane.index + 1} of ${lanes.length}`].filter(Boolean).join(", ");
}

function reveal(thread) {
  const { lane } = thread, room = Math.max(height - covered, lane.height);
  if (lane.y < scroller.scrollTop + 10 || lane.y + lane.height > scroller.scrollTop + room - 10) {
    scroller.scrollTop = lane.y - Math.max(0, (room - lane.height) / 2);
  }
  const span = view.to - view.from;
  if (thread.end < view.from || thread.begin > view.to) {
    const middle = (thread.begin + Math.min(thread.end, thread.begin + span)) / 2;
    glide(middle - span / 2, middle + span / 2);
  }
}

function nextFinding(kind) {
  const hooked = data.hooks.map((hook) => byNumber.get(hook.thread)).filter(Boolean);
  const all = [...new Set(kind === "crashed" ? crashed : kind === "leaked" ? left : kind === "hook" ? hooked : [...crashed, ...leaked, ...hooked])];
  if (all.length) select(all[(all.indexOf(selected) + 1) % all.length], true);
}

// ---- To zoom and pan ----

let gliding = 0;
function glide(from, to) {
  cancelAnimationFrame(gliding);
  hover(null);
  if (calm.matches) { setView(from, to); return; }
  const start = { ...view }, began = performance.now();
  const step = (now) => {
    const done = Math.min(1, Math.max(0, now - began) / 140), eased = 1 - (1 - done) ** 3;
    setView(start.from + (from - start.from) * eased, start.to + (to - start.to) * eased);
    if (done < 1) gliding = requestAnimationFrame(step);
  };
  gliding = requestAnimationFrame(step);
}

function zoom(factor, time = null, smooth = true) {
  const span = view.to - view.from;
  if (time === null) { // around the selected thread if it is in view, else the middle
    const visible = selected && selected.end >= view.from && selected.begin <= view.to;
    time = visible ? (Math.max(selected.begin, view.from) + Math.min(selected.end, view.to)) / 2 : (view.from + view.to) / 2;
  }
  const share = (time - view.from) / span, wanted = Math.min(duration, span * factor);
  const from = Math.min(Math.max(0, time - wanted * share), duration - wanted);
  cancelAnimationFrame(gliding);
  if (smooth) glide(from, from + wanted); else setView(from, from + wanted);
}

const pan = (share) => { const span = view.to - view.from, from = Math.min(Math.max(0, view.from + span * share), duration - span); glide(from, from + span); };
const showAll = () => glide(0, duration);

function zoomTo(thread) {
  const margin = Math.max((thread.end - thread.begin) * 0.15, duration * 1e-6);
  glide(Math.max(0, thread.begin - margin), Math.min(duration, thread.end + margin));
}

function onWheel(event) {
  const sideways = event.shiftKey ? event.deltaX || event.deltaY : Math.abs(event.deltaX) > Math.abs(event.deltaY) ? event.deltaX : 0;
  const scale = event.deltaMode === 1 ? 20 : event.deltaMode === 2 ? 300 : 1;
  if (sideways) {
    event.preventDefault();
    const by = (sideways * scale / plotWidth()) * (view.to - view.from);
    setView(view.from + by, Math.min(duration, view.from + by) + view.to - view.from);
    return;
  }
  // Lanes that don't fit are scrolled, as everywhere. A pinch on a touchpad arrives as a wheel with Ctrl.
  const scrolls = event.currentTarget === scroller && lanesHeight > height;
  if (scrolls && !event.ctrlKey && !event.metaKey && !event.altKey) return;
  event.preventDefault();
  const x = event.clientX - scroller.getBoundingClientRect().left;
  const time = event.currentTarget === overview ? null : timeOf(Math.max(x, gutter));
  zoom(Math.exp(Math.max(-240, Math.min(240, event.deltaY * scale)) * (event.ctrlKey ? 0.006 : 0.0025)), time, false);
}

/** Drag and pinch on lanes and axis: one finger or the mouse pans, two zoom. */
function followPointers(target) {
  const pointers = new Map();
  let moved = 0, downAt = null;
  const position = (event) => { const box = scroller.getBoundingClientRect(); return { x: event.clientX - box.left, y: event.clientY - box.top }; };
  target.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse" && event.button !== 0) return;
    const at = position(event);
    if (at.x > width) return; // the scroll bar
    if (!pointers.size) { moved = 0; downAt = at; }
    pointers.set(event.pointerId, at);
    cancelAnimationFrame(gliding);
  });
  target.addEventListener("pointermove", (event) => {
    const at = position(event), before = pointers.get(event.pointerId);
    if (!before) {
      if (event.pointerType !== "touch" && target === scroller) hover(threadAt(at.x, at.y + scroller.scrollTop), event);
      return;
    }
    const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
    const secondsPerPixel = (view.to - view.from) / plotWidth();
    if (other) {
      const wide = (a, b) => Math.max(Math.hypot(a.x - b.x, a.y - b.y), 8);
      zoom(wide(before, other) / wide(at, other), timeOf((at.x + other.x) / 2), false);
      moved = 99;
    } else {
      moved += Math.abs(at.x - before.x) + Math.abs(at.y - before.y);
      if (moved > 4) {
        // Captured no sooner: a click that is captured would not arrive where it was made.
        if (!target.hasPointerCapture(event.pointerId)) target.setPointerCapture(event.pointerId);
        const from = Math.min(Math.max(0, view.from - (at.x - before.x) * secondsPerPixel), duration - (view.to - view.from));
        setView(from, from + view.to - view.from);
        if (event.pointerType === "mouse") scroller.scrollTop -= at.y - before.y;
        scroller.classList.add("dragging");
        hover(null);
      }
    }
    pointers.set(event.pointerId, at);
  });
  const release = (event) => {
    if (!pointers.delete(event.pointerId) || pointers.size) return;
    scroller.classList.remove("dragging");
    if (event.type === "pointerup" && moved <= 4 && target === scroller) select(threadAt(downAt.x, downAt.y + scroller.scrollTop));
  };
  target.addEventListener("pointerup", release);
  target.addEventListener("pointercancel", release);
  target.addEventListener("pointerleave", (event) => { if (!pointers.size && event.pointerType !== "touch") hover(null); });
}

/** On the strip above: drag the window, its edges, or choose a new one. */
function followOverview() {
  let mode = null, origin = 0, start = null;
  const timeAt = (event) => {
    const x = event.clientX - overview.getBoundingClientRect().left;
    return Math.min(duration, Math.max(0, ((x - gutter - EDGE) / plotWidth()) * duration));
  };
  overview.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    cancelAnimationFrame(gliding);
    overview.setPointerCapture(event.pointerId);
    origin = timeAt(event);
    start = { ...view };
    const near = (10 / plotWidth()) * duration, whole = view.to - view.from >= duration * 0.9999;
    mode = !whole && Math.abs(origin - view.from) < near ? "from" : !whole && Math.abs(origin - view.to) < near ? "to"
      : !whole && origin > view.from && origin < view.to ? "move" : "choose";
  });
  overview.addEventListener("pointermove", (event) => {
    if (!mode) return;
    const time = timeAt(event), span = start.to - start.from;
    if (mode === "move") {
      const from = Math.min(Math.max(0, start.from + time - origin), duration - span);
      setView(from, from + span);
    } else {
      const fixed = mode === "from" ? start.to : mode === "to" ? start.from : origin;
      if (Math.abs(time - fixed) > (3 / plotWidth()) * duration) setView(Math.min(time, fixed), Math.max(time, fixed));
    }
  });
  for (const type of ["pointerup", "pointercancel"]) overview.addEventListener(type, () => { mode = null; });
  overview.addEventListener("dblclick", showAll);
}

// ---- To point at ----

function hover(thread, event = null) {
  const tooltip = element("tooltip");
  if (thread !== hovered) {
    hovered = thread;
    tooltip.hidden = !thread;
    if (thread) {
      const parent = byNumber.get(thread.parent);
      const lines = [
        thread.target,
        `${stateWords(thread)} · ${lived(thread)}${thread.daemon ? " · daemon" : ""}${thread.foreign ? " · foreign" : ""}`,
        `started ${thread.started === null ? "before the capture" : `at ${formatMoment(thread.started, Math.max(duration / 1e5, 1e-6))}`}${parent ? ` by ${parent.name}` : ""}`,
        thread.started_at && `at ${shortPlace(thread.started_at)} in ${thread.started_at.function}`,
      ].filter(Boolean).map((line) => make("span", {}, line));
      if (thread.exception) lines.push(make("span", { class: "crashed" }, `raised ${raisedWords(thread.exception)}`));
      if (thread.now) lines.push(make("span", { class: thread.state === "leaked" ? "leaked" : "" }, `now at ${shortPlace(thread.now)} in ${thread.now.function}`));
      for (const hook of thread.hooks.slice(0, 3)) lines.push(make("span", { class: "hook" }, `hook ${hook.name} failed: ${hook.error}`));
      tooltip.replaceChildren(make("b", {}, thread.name), ...lines);
    }
    redraw();
  }
  if (thread && event) {
    const box = tooltip.getBoundingClientRect(), gap = 14;
    const left = event.clientX + gap + box.width > innerWidth ? event.clientX - gap - box.width : event.clientX + gap;
    const top = event.clientY + gap + box.height > innerHeight ? event.clientY - gap - box.height : event.clientY + gap;
    tooltip.style.transform = `translate(${Math.max(4, left)}px, ${Math.max(4, top)}px)`;
  }
}

// ---- To search ----

function search() {
  const wanted = element("query").value.trim().toLowerCase();
  matches = wanted ? [] : null;
  current = -1;
  if (wanted) {
    let first = null; // the lane that has the name of the group
    for (const lane of lanes) {
      if (lane.label !== null) [first, lane.found] = [lane, false];
      for (const thread of lane.threads) {
        thread.matches = `${thread.name}\n${thread.target ?? ""}`.toLowerCase().includes(wanted);
        if (thread.matches) first.found = Boolean(matches.push(thread));
      }
    }
  }
  tellCount();
  if (!element("table").hidden) fillTable();
  redraw();
}

function tellCount() {
  const found = matches ? matches.length : 0;
  element("count").textContent = !matches ? "" : !found ? "none" : current < 0 ? found.toLocaleString("en") : `${current + 1} of ${found.toLocaleString("en")}`;
  element("previous").disabled = element("next").disabled = !found;
}

function step(by) {
  if (!matches?.length) return;
  current = (current < 0 ? (by > 0 ? 0 : -1) + matches.length : current + by + matches.length) % matches.length;
  tellCount();
  select(matches[current], true);
}

// ---- The table ----

const COLUMNS = [
  ["#", (t) => t.number, "number"],
  ["Name", (t) => t.name, ""],
  ["State", stateWords, ""],
  ["Started", (t) => t.started ?? -1, "number"],
  ["Life", (t) => t.end - t.begin, "number"],
  ["Target", (t) => t.target ?? "", "wide"],
  ["Started by", (t) => byNumber.get(t.parent)?.name ?? "", "wide"],
  ["Raised, or now at", (t) => (t.exception ? raisedWords(t.exception) : t.now ? `${shortPlace(t.now)} in ${t.now.function}` : ""), "wide"],
];
let sortedBy = 0, descending = false, rowsShown = 200;

function fillTable() {
  const key = COLUMNS[sortedBy][1], sign = descending ? -1 : 1;
  const compare = (a, b) => { const x = key(a), y = key(b); return sign * (x < y ? -1 : x > y ? 1 : a.number - b.number); };
  const rows = data.threads.filter((thread) => !matches || thread.matches).sort(compare);
  const cell = (thread, [title, value, kind]) => {
    if (title === "Name") return make("button", { type: "button", class: "link code", onclick: () => select(thread, true) }, thread.name);
    if (title === "State") return make("span", {}, ...badges(thread).flatMap((badge) => [badge, " "]));
    if (title === "Started") return thread.started === null ? "before" : formatMoment(thread.started, Math.max(duration / 1e4, 1e-6));
    if (title === "Life") return lived(thread);
    return kind === "wide" ? make("span", { class: "code" }, value(thread)) : String(value(thread));
  };
  const head = make("tr", {}, ...COLUMNS.map(([title, , kind], index) => make("th",
    { class: kind, scope: "col", "aria-sort": index === sortedBy ? (descending ? "descending" : "ascending") : null },
    make("button", { type: "button", onclick: () => { descending = sortedBy === index && !descending; sortedBy = index; fillTable(); } },
      title, index === sortedBy ? make("span", { "aria-hidden": true }, descending ? " ↓" : " ↑") : null))));
  const body = rows.slice(0, rowsShown).map((thread) => make("tr", {}, ...COLUMNS.map((column) => make("td", { class: column[2] }, cell(thread, column)))));
  const rest = rows.length - body.length;
  const more = make("p", { class: "quiet" }, rest ? make("button", { type: "button", onclick: () => { rowsShown += 1000; fillTable(); } }, `Show ${Math.min(rest, 1000).toLocaleString("en")} more`)
    : rows.length ? "" : "No thread.", rest ? ` ${rest.toLocaleString("en")} are not shown.` : "");
  element("table").replaceChildren(make("table", {}, make("thead", {}, head), make("tbody", {}, ...body)), more);
}

function showView(name) {
  for (const other of ["timeline", "table"]) {
    element(other).hidden = other !== name;
    element(`show-${other}`).setAttribute("aria-pressed", String(other === name));
  }
  element("zoom").hidden = name !== "timeline";
  hover(null);
  if (name === "table") fillTable(); else resize();
}

// ---- Keys ----

function moveLane(by) {
  const time = selected ? Math.max(view.from, Math.min(view.to, (selected.begin + selected.end) / 2)) : view.from;
  const index = selected ? selected.lane.index + by : by > 0 ? firstLane(scroller.scrollTop) : lanes.length - 1;
  const lane = lanes[Math.max(0, Math.min(lanes.length - 1, index))];
  if (lane) select(nearest(lane, time), true);
}

function moveWithinLane(by) {
  if (!selected) { moveLane(1); return; }
  const next = selected.lane.threads[selected.lane.threads.indexOf(selected) + by];
  if (next) select(next, true);
}

const KEYS = {
  ArrowUp: () => moveLane(-1), ArrowDown: () => moveLane(1), PageUp: () => moveLane(-10), PageDown: () => moveLane(10),
  Home: () => lanes.length && select(lanes[0].threads[0], true),
  End: () => lanes.length && select(lanes[lanes.length - 1].threads[0], true),
  ArrowLeft: (event) => (event.shiftKey ? moveWithinLane(-1) : pan(-0.2)),
  ArrowRight: (event) => (event.shiftKey ? moveWithinLane(1) : pan(0.2)),
  "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1 / 0.6), _: () => zoom(1 / 0.6), 0: showAll,
  Enter: () => selected && zoomTo(selected),
  Escape: () => select(null),
  p: () => selected && byNumber.get(selected.parent) && select(byNumber.get(selected.parent), true),
};
const ANYWHERE = { "/": () => element("query").focus(), "!": () => nextFinding(), n: () => step(1), N: () => step(-1), "?": () => element("keys-dialog").showModal() };

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches?.("input") || element("keys-dialog").open) return;
  const action = (event.target === scroller && (KEYS[event.key] ?? KEYS[event.key.toLowerCase()])) || ANYWHERE[event.key];
  if (!action) return;
  event.preventDefault();
  action(event);
}

// ---- Everything together ----

function setTheme(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  readColours();
  redraw();
}

const prefersDark = matchMedia("(prefers-color-scheme: dark)");
setTheme(prefersDark.matches);
prefersDark.addEventListener("change", () => setTheme(prefersDark.matches));
sheet.addEventListener("change", fillPanel);
fillHead();
fillLegend();
fillPanel();
followPointers(scroller);
followPointers(axis);
followOverview();
for (const target of [scroller, axis, overview]) target.addEventListener("wheel", onWheel, { passive: false });
scroller.addEventListener("scroll", redraw, { passive: true });
scroller.addEventListener("dblclick", (event) => {
  const box = scroller.getBoundingClientRect(), thread = threadAt(event.clientX - box.left, event.clientY - box.top + scroller.scrollTop);
  if (thread) zoomTo(thread); else showAll();
});
document.addEventListener("keydown", onKey);
element("search").addEventListener("submit", (event) => { event.preventDefault(); step(1); });
element("previous").addEventListener("click", () => step(-1));
element("query").addEventListener("input", search);
element("query").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.shiftKey) { event.preventDefault(); step(-1); }
  if (event.key === "Escape") { event.preventDefault(); element("query").value = ""; search(); scroller.focus(); }
});
for (const name of ["timeline", "table"]) element(`show-${name}`).addEventListener("click", () => showView(name));
element("zoom-in").addEventListener("click", () => zoom(0.5));
element("zoom-out").addEventListener("click", () => zoom(2));
element("zoom-all").addEventListener("click", showAll);
element("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme !== "dark"));
element("help").addEventListener("click", () => element("keys-dialog").showModal());
new ResizeObserver(resize).observe(scroller);
resize();
