// The page of `parfocal serve`: shows what the service tells, and sends what is pressed.
//
//   /api/events  ──►  told   ──►  show…   the state as it changes, each frame of a run, each run that ended
//   /api/status  ──►  asked  ──►  show…   now and then: whether the service still answers, where the stage is
//   /api/preview.mjpg ──►  picture        read here, not by <img>, to know how old the picture is
//
// Nothing is assumed of a request: what came of it is shown when the service tells so.
// One file, as the page is one: what it shows, from words to charts, hangs on the one object below.

const STEPS_UM = [50, 10, 1, 0.1, -50, -10, -1, -0.1];
const BUSY = ["focusing", "moving", "collecting"];
const [ASK_IDLE_MS, ASK_BUSY_MS, ASK_LOST_MS, PATIENCE_MS] = [5000, 300, 2000, 8000];
const OLD_PICTURE_MS = 6000; // a sweep's moves leave no time for a picture
const GUARD_MS = 600; // a press meant for Stop that comes too late must not begin a run
const DOUBLE_MS = 500;
const RUNS_SHOWN = 8;
const REACHES_DOF = [5, 10, 20, 40, 80];
const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [360, 170, 12, 12, 22, 24]; // of a chart

const page = {
  status: null, // the newest
  told: 0, // how many statuses the stream brought: an answer asked for before the last one is out of date
  answers: false, // whether the service answers
  locked: false, // whether it asks for the token
  events: null,
  looks: [], // of the run that is drawn
  drawn: null, // its number
  endedMs: -Infinity,
  pressedMs: -Infinity,
  pictureMs: -Infinity,
};

const $ = (id) => document.getElementById(id);
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const justEnded = () => performance.now() - page.endedMs < GUARD_MS;
const isBusy = () => BUSY.includes(page.status?.state);

// Words ---------------------------------------------------------------------------------------------------

const minus = (text) => text.replace("-", "−");
const um = (value, digits = 2) => `${minus(value.toFixed(digits))} µm`;
const signed = (value, digits) => {
  const text = digits === undefined ? `${value}` : value.toFixed(digits);
  return Number(text) ? (value > 0 ? "+" : "") + minus(text) : text.replace("-", "");
};
const percent = (share) => `${Math.round(100 * share)} %`;
const counted = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

/** State in plain words, its mark and tone, and whether it is bad news that must be heard at once. */
function worded(status) {
  switch (status.state) {
    case "in_focus": return { words: "In focus", mark: "✓", tone: "good" };
    case "focusing": return { words: "Focusing…", mark: "", tone: "busy" };
    case "collecting": return { words: "Recording…", mark: "", tone: "busy" };
    case "moving": return { words: "Moving…", mark: "", tone: "busy" };
    case "starting": return { words: "Starting…", mark: "", tone: "busy" };
    case "ready": return { words: "Ready", mark: "–", tone: "" };
    case "failed": return { words: status.collect?.ended === status.reason ? "Not recorded" : resultWords({ ...status.last?.result, reason: status.reason }), mark: "×", tone: "bad" };
    default: return { words: "Fault", mark: "!", tone: "bad", urgent: true };
  }
}

function resultWords(result) {
  if (result?.result === "focused") return "In focus";
  if (result?.result === "no_specimen") return "No specimen";
  return /(^|: )stopped( at |$)/.test(result?.reason) ? "Stopped" : "Failed";
}

function holdWords(hold) {
  if (!hold.on) return "Off: the focus is left to drift.";
  const drift = hold.drift_dof === null ? "" : `; last drift ${signed(hold.drift_dof, 2)} depths of field`;
  return `${hold.state === "holding" ? "Holding" : "Waiting"}: ${hold.reason}${drift}; ${counted(hold.moves, "move")}.`;
}

/** How far the recording of a field is, or what came of it and where the fields are. */
function collectWords({ slide, folder, field, planes_done, planes, fields, ended }) {
  if (ended) return sentence(ended) + (fields ? ` ${counted(fields, "field")} of ${slide} so far, on the microscope's computer: ${folder}` : "");
  if (!planes_done) return `Field ${fields + 1} of ${slide}: ${field ? "focusing" : "checking"}, then ${planes} planes.`;
  return `Field ${fields + 1} of ${slide}: plane ${planes_done} of ${planes}.`;
}

function byWords(by) {
  const known = { boot: "at start", page: "by the page", button: "by the button", signal: "by a signal", schedule: "by the clock" };
  return known[by] ?? (by ? `by ${by}` : "");
}

function longTime(seconds) {
  const [days, hours, minutes] = [seconds / 86400, (seconds / 3600) % 24, (seconds / 60) % 60].map(Math.floor);
  if (days) return `${counted(days, "day")} ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min` : "less than a minute";
}

/** Why nothing can be asked for now; "" where it can. */
function whyNotNow() {
  const { status, answers } = page;
  if (!status || !answers) return "the service does not answer";
  if (!status.stage) return `not yet: ${status.reason}`;
  if (status.state === "collecting") return "busy: a z-stack is being recorded; stop it first";
  return isBusy() ? "busy: a focus run or a move is under way; stop it first" : "";
}

/** Why a move by `distance` µm is not possible now; "" where it is. */
function whyNot(distance) {
  const now = whyNotNow();
  if (now) return now;
  const { limits_um: [low, high], position_um } = page.status.stage;
  const target = position_um + distance;
  if (target < low) return `would end at ${um(target)}, below the lower limit of ${um(low)}`;
  if (target > high) return `would end at ${um(target)}, above the upper limit of ${um(high)}`;
  return "";
}

// Requests ------------------------------------------------------------------------------------------------

/** The answer to a request as an object; an Error whose text is one sentence for whoever asked. */
async function ask(path, body) {
  const options = { signal: AbortSignal.timeout(PATIENCE_MS), headers: {} };
  if (body !== undefined) {
    options.method = "POST";
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  let answer, found;
  try {
    answer = await fetch(path, options);
    found = await answer.json();
  } catch {
    if (!answer) throw new Error("The service does not answer.");
  }
  if (answer.status === 401 && path !== "/api/login") lock();
  if (!answer.ok) throw Object.assign(new Error(sentence(found?.error ?? `Error ${answer.status}`)), { status: answer.status });
  return found;
}

const sentence = (text) => text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

/** Send what was pressed; what the service says against it is shown beside the button. */
async function send(path, body, problem) {
  problem.textContent = "";
  try {
    return await ask(path, body);
  } catch (error) {
    problem.textContent = error.message;
    return null;
  }
}

const focus = () => send("/api/focus", {}, $("problem-act"));
const stop = () => send("/api/stop", {}, $("problem-act"));

async function jog(distance) {
  const why = whyNot(distance);
  if (why && page.answers) $("problem-jog").textContent = sentence(`${signed(distance)} µm ${why}`);
  else await send("/api/jog", { um: distance }, $("problem-jog"));
}

/** One more field of the slide that is named. */
async function collect() {
  const slide = $("slide").value.trim();
  $("slide").value = slide;
  const wrong = "A name of 1 to 64 letters (a to z), digits, -, _ and . is needed, no . in front, such as blood-7.";
  $("slide").setAttribute("aria-invalid", !$("slide").validity.valid);
  $("problem-collect").textContent = $("slide").validity.valid ? "" : wrong;
  if (!$("slide").validity.valid) return;
  localStorage.setItem("slide", slide);
  await send("/api/collect", { slide }, $("problem-collect"));
}

/** The big button: Stop while something is going on, else Focus. `again`: the second press of a double one. */
function press(again = false) {
  const now = performance.now();
  if (isBusy()) {
    if (again && now - page.pressedMs < DOUBLE_MS) return;
    stop();
  } else if (!again && !justEnded()) {
    page.pressedMs = now;
    focus();
  }
}

function keyPressed(event) {
  if (event.key === "Escape") {
    if (!page.locked) stop();
    return;
  }
  if (event.repeat && event.key === "Enter" && event.target.closest?.("#press, #collect")) event.preventDefault(); // held down, it begins one run
  const taken = event.defaultPrevented || event.repeat || event.ctrlKey || event.metaKey || event.altKey;
  if (taken || !$("keys").checked || $("door").open) return;
  const within = event.target.closest?.("input, textarea, select, [contenteditable]");
  const writing = within && within.type !== "checkbox";
  const own = event.key === " " && event.target.closest?.("button, a, input, summary");
  if (writing || own || ![" ", "f", "F"].includes(event.key)) return;
  event.preventDefault();
  press();
}

// What the service tells ----------------------------------------------------------------------------------

function connect() {
  page.events?.close();
  page.events = null;
  if (document.hidden || page.locked) return; // a browser opens few connections; a page unseen takes none
  const events = (page.events = new EventSource("/api/events"));
  const heard = (kind, act) => events.addEventListener(kind, (event) => act(JSON.parse(event.data)));
  heard("status", (status) => {
    page.told += 1;
    answered(status);
  });
  heard("look", look);
  heard("run", () => showRuns(true));
  events.onopen = () => {
    refresh();
    showRuns();
  };
  events.onerror = () => {
    lost();
    if (events.readyState === EventSource.CLOSED) refresh();
  };
}

/** Ask how things are. The one place that finds out that the service is gone, or back. */
async function refresh() {
  const told = page.told;
  try {
    const status = await ask("/api/status");
    if (told === page.told) answered(status);
    if (!page.events || page.events.readyState === EventSource.CLOSED) connect();
  } catch {
    lost();
  }
}

async function keepAsking() {
  for (let lastMs = 0; ; await sleep(ASK_BUSY_MS)) {
    const period = !page.answers ? ASK_LOST_MS : isBusy() ? ASK_BUSY_MS : ASK_IDLE_MS;
    if (page.locked || performance.now() - lastMs < period) continue;
    lastMs = performance.now();
    await refresh();
  }
}

function answered(status) {
  const before = page.status?.state;
  page.answers = true;
  page.status = status;
  if (["focusing", "collecting"].includes(status.state) && before !== status.state) {
    if (status.state === "collecting") $("collect-more").open = true;
    page.looks = [];
    page.drawn = null;
    showCharts();
  }
  if (BUSY.includes(before) && !isBusy()) {
    page.endedMs = performance.now();
    setTimeout(showPress, GUARD_MS + 10);
  }
  show();
}

function lost() {
  page.answers = false;
  show();
}

/** A frame of a run; told again when what is believed after it is known. */
function look(seen) {
  if (page.looks.at(-1)?.time_s === seen.time_s) page.looks.pop();
  page.looks.push(seen);
  showCharts();
}

// The token -----------------------------------------------------------------------------------------------

function lock() {
  page.locked = true;
  page.events?.close();
  page.events = null;
  lost();
  if (!$("door").open) $("door").showModal();
}

async function logIn(token, problem) {
  if ((await send("/api/login", { token }, problem)) === null) return;
  page.locked = false;
  $("token").value = "";
  $("door").close();
  await refresh();
}

/** `#token=…` in the address logs in, and leaves the address. */
async function logInByAddress() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token === null) return;
  history.replaceState(null, "", location.pathname + location.search);
  await logIn(token, $("problem-door")); // where it is wrong, the next answer opens the dialog
}

// Showing -------------------------------------------------------------------------------------------------

function show() {
  const { status, answers, locked } = page;
  const link = locked ? "Token needed" : answers ? "Connected" : status ? "Connection lost, retrying…" : "Connecting…";
  setText($("link"), link);
  $("link").classList.toggle("lost", locked || (!answers && status !== null));
  $("ask").hidden = !locked;
  showState(status, answers ? worded(status ?? {}) : { words: link, mark: "?", tone: status ? "bad" : "", urgent: status !== null });
  showPress();
  showStage(status?.stage);
  showCollect(status?.collect);
  if (!status) return;
  $("hold").checked = status.hold.on;
  setText($("held"), holdWords(status.hold));
  $("rig").hidden = status.rig !== "simulated";
  showHealth(status);
  showPictureAge();
}

function showState(status, { words, mark, tone, urgent = false }) {
  const reason = page.answers ? sentence(status.reason || words) : status ? `It was: ${worded(status).words}` : "";
  setText($("mark"), mark);
  $("mark").className = `mark ${tone}`;
  if ($("words").textContent !== words || (tone !== "busy" && $("reason").textContent !== reason)) {
    $(urgent ? "urgent" : "polite").textContent = `${words}. ${reason}`;
    $(urgent ? "polite" : "urgent").textContent = "";
  }
  setText($("words"), words);
  setText($("reason"), reason);
  document.title = `${words} – Parfocal`;
  const warnings = [];
  if (status?.stage?.uncertain) warnings.push(`Position uncertain: ${status.stage.uncertain}`);
  if (status?.model_note) warnings.push(`Not the model that was chosen: ${status.model_note}`);
  setText($("warning"), warnings.join("; "));
}

function showPress() {
  const stops = isBusy();
  setText($("press"), stops ? "Stop" : "Focus");
  $("press").classList.toggle("stop", stops);
  disable($("press"), stops ? "" : justEnded() ? "what was under way has just ended" : whyNotNow());
}

function showStage(stage) {
  setText($("position"), stage ? um(stage.position_um) : "–");
  for (const button of $("steps").children) disable(button, whyNot(Number(button.value)));
  disable($("move"), whyNotNow());
  const [low, high] = stage?.limits_um ?? [0, 0];
  setText($("low"), stage ? `${signed(low, 1)} µm` : "–");
  setText($("high"), stage ? `${signed(high, 1)} µm` : "–");
  $("needle").hidden = $("zero").hidden = !stage;
  if (!stage) return void $("bar").setAttribute("aria-valuetext", "unknown");
  const share = (value) => `${Math.min(100, Math.max(0, (100 * (value - low)) / (high - low || 1)))}%`;
  $("needle").style.left = share(stage.position_um);
  $("zero").style.left = share(0);
  $("zero").hidden = low > 0 || high < 0;
  const values = { valuemin: low, valuemax: high, valuenow: stage.position_um };
  for (const [name, value] of Object.entries(values)) $("bar").setAttribute(`aria-${name}`, value);
  $("bar").setAttribute("aria-valuetext", `${um(stage.position_um)}, between ${um(low, 1)} and ${um(high, 1)}`);
}

function showCollect(now) {
  const recording = now && now.ended === null;
  disable($("record"), whyNotNow());
  setText($("record"), now?.fields && now.slide === $("slide").value ? "Record the next field" : "Record a field");
  $("planes").hidden = !recording;
  if (recording) Object.assign($("planes"), { max: now.planes, value: now.planes_done });
  setText($("collect-told"), now ? collectWords(now) : "");
}

/** Where `why` says something, the button stays within reach of the keyboard and says it. */
function disable(button, why) {
  if (why) button.setAttribute("aria-disabled", "true");
  else button.removeAttribute("aria-disabled");
  if (button.title !== why) button.title = why;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text; // what did not change is not read out again
}

function showHealth(status) {
  const facts = {
    Rig: status.rig ?? "not open",
    Motor: status.motor,
    Camera: status.camera,
    Objective: status.objective,
    "Depth of field": um(status.dof_um),
    Tolerance: `±${counted(status.tolerance_dof, "depth")} of field`,
    Model: status.model.split(/[\\/]/).pop(),
    Version: status.version,
    "Running for": longTime(status.uptime_s),
    "Lost traces": status.lost_traces ? `${status.lost_traces}; is the disk full?` : "none",
    Events: page.answers ? "connected" : "connection lost, retrying",
  };
  const list = $("health");
  if (!list.children.length) for (const name of Object.keys(facts)) list.append(made("dt", name), made("dd"));
  Object.values(facts).forEach((text, k) => setText(list.children[2 * k + 1], text));
}

function made(tag, text = "", name = "") {
  return Object.assign(document.createElement(tag), { textContent: text, className: name });
}

/** `ended`: a run has just ended, and what is drawn of it gives way to its trace, which has finer beliefs. */
async function showRuns(ended = false) {
  const runs = await ask(`/api/runs?count=${RUNS_SHOWN}`).catch(() => null);
  if (!runs) return;
  $("runs").replaceChildren(...runs.map(runItem));
  $("no-runs").hidden = runs.length > 0;
  if (runs.length && page.drawn !== runs[0].run && (ended || !isBusy())) await drawKept(runs[0].run);
}

function runItem({ run, at, by, result }) {
  const words = resultWords(result);
  const title = made("p");
  title.append(made("strong", `${words}${result?.method === "sweep" ? " by sweep" : ""}`, words === "In focus" ? "good" : "bad"));
  title.append(result?.reason ? `: ${result.reason}` : "");
  const sure = result?.confidence ?? null;
  const cost = result?.captures === undefined ? [] : [counted(result.captures, "frame"), `${result.seconds.toFixed(1)} s`];
  const item = made("li");
  const time = at ? new Date(at).toLocaleString([], { dateStyle: "medium", timeStyle: "medium" }) : "time unknown";
  item.append(title, made("p", `${time}, asked for ${byWords(by)}`, "small"));
  item.append(made("p", [...cost, sure === null ? "confidence unknown" : `${percent(sure)} sure`].join(" · "), "small"));
  const link = made("a", `Run ${run}`);
  link.href = `/api/runs/${run}`;
  link.title = "All of it, as JSON";
  item.append(link);
  return item;
}

/** Draw a run that is over, from its trace. */
async function drawKept(number) {
  const before = page.looks;
  const run = await ask(`/api/runs/${number}`).catch(() => null);
  if (!run?.entries || page.looks !== before) return; // the next run has begun
  page.drawn = number;
  page.looks = run.entries;
  for (const { belief } of page.looks) {
    if (belief) belief.defocus_dof = belief.probability.map((_, k) => belief.first_dof + k * belief.step_dof);
  }
  showCharts();
}

// Charts --------------------------------------------------------------------------------------------------

function showCharts() {
  setText($("looks-title"), page.drawn ? `Run ${page.drawn}, frame by frame` : "The run, frame by frame");
  const believed = page.looks.findLast((seen) => seen.belief);
  const tolerance = page.status?.tolerance_dof ?? 1;
  $("belief").replaceChildren(...(believed ? beliefMarks(believed.belief, tolerance) : []));
  $("sharpness").replaceChildren(...(page.looks.length ? sharpnessMarks(page.looks) : []));
  const none = page.looks.length ? "Nothing is believed: the frames show nothing to go by." : "No frame yet.";
  setText($("belief-text"), believed ? beliefWords(believed, tolerance) : none);
  setText($("sharpness-text"), page.looks.length ? sharpnessWords(page.looks) : "No frame yet.");
}

function mark(tag, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}

function beliefMarks({ defocus_dof, probability }, tolerance) {
  const outside = (reach) => probability.reduce((sum, p, k) => sum + (Math.abs(defocus_dof[k]) > reach ? p : 0), 0);
  const reach = REACHES_DOF.find((r) => r >= 2 * tolerance && outside(r) < 0.03) ?? REACHES_DOF.at(-1);
  const x = (dof) => WIDTH / 2 + (dof / reach) * (WIDTH / 2 - LEFT);
  const [floor, high] = [HEIGHT - BOTTOM, Math.max(...probability)];
  const step = Math.abs(defocus_dof[1] - defocus_dof[0]) || 1;
  const thick = Math.max(1, 0.85 * (x(step) - x(0)));
  const marks = [mark("rect", { class: "band", x: x(-tolerance), y: TOP, width: x(tolerance) - x(-tolerance), height: floor - TOP })];
  probability.forEach((p, k) => {
    const tall = (p / high) * (floor - TOP);
    if (Math.abs(defocus_dof[k]) > reach || tall < 0.3) return;
    marks.push(mark("rect", { class: "fill", x: x(defocus_dof[k]) - thick / 2, y: floor - tall, width: thick, height: tall }));
  });
  marks.push(mark("path", { class: "axis", d: `M${LEFT} ${floor}H${WIDTH - RIGHT}` }));
  for (const dof of [-reach, -reach / 2, 0, reach / 2, reach]) {
    const anchor = dof === -reach ? "start" : dof === reach ? "end" : "middle";
    marks.push(mark("text", { x: x(dof), y: HEIGHT - 8, "text-anchor": anchor }, dof ? signed(dof) : "0"));
  }
  marks.push(mark("text", { x: LEFT, y: 14 }, "← short of focus"));
  marks.push(mark("text", { x: WIDTH - RIGHT, y: 14, "text-anchor": "end" }, "past focus →"));
  marks.push(mark("text", { class: "ink", x: x(0), y: 14, "text-anchor": "middle" }, `in focus ±${tolerance}`));
  return marks;
}

function beliefWords({ belief, within }, tolerance) {
  const best = belief.defocus_dof[belief.probability.indexOf(Math.max(...belief.probability))];
  const side = Math.abs(best) <= tolerance ? "" : best > 0 ? ", past focus" : ", short of focus";
  const sure = within === null ? "" : `${percent(within)} within ${counted(tolerance, "depth")} of field; `;
  return `${sure}most probable ${signed(best, 1)}${side}`;
}

function sharpnessMarks(looks) {
  const places = looks.map((seen) => seen.position_um);
  const [low, high, most] = [Math.min(...places), Math.max(...places), Math.max(...looks.map((seen) => seen.sharpness)) || 1];
  const room = Math.max(0.1 * (high - low), page.status?.dof_um ?? 1);
  const floor = HEIGHT - BOTTOM;
  const x = (place) => LEFT + ((place - low + room) / (high - low + 2 * room)) * (WIDTH - LEFT - RIGHT);
  const y = (sharpness) => floor - (sharpness / most) * (floor - TOP);
  const points = looks.map((seen) => [x(seen.position_um), y(seen.sharpness)]);
  const marks = [mark("path", { class: "axis", d: `M${LEFT} ${floor}H${WIDTH - RIGHT}` })];
  for (const text of new Set([low.toFixed(1), high.toFixed(1)])) {
    marks.push(mark("text", { x: x(Number(text)), y: HEIGHT - 8, "text-anchor": "middle" }, minus(text)));
  }
  marks.push(mark("path", { class: "path", d: `M${points.map((point) => point.join(" ")).join("L")}` }));
  for (const [cx, cy] of points) marks.push(mark("circle", { class: "fill", cx, cy, r: 4 }));
  const [cx, cy] = points.at(-1);
  marks.push(mark("circle", { class: "now", cx, cy, r: 6 }));
  const anchor = cx > WIDTH - 60 ? "end" : cx < 60 ? "start" : "middle";
  marks.push(mark("text", { class: "ink", x: cx, y: Math.max(cy - 11, 11), "text-anchor": anchor }, `last, frame ${looks.length}`));
  return marks;
}

function sharpnessWords(looks) {
  const best = looks.reduce((a, b) => (b.sharpness > a.sharpness ? b : a));
  if (!best.sharpness) return `${counted(looks.length, "frame")}; none shows any detail`;
  const share = looks.at(-1).sharpness / best.sharpness;
  const last = share === 1 ? "" : `; the last has ${percent(share)} of its sharpness`;
  return `${counted(looks.length, "frame")}; the ${last ? "" : "last is the "}sharpest, at ${um(best.position_um)}${last}`;
}

// The picture ---------------------------------------------------------------------------------------------

async function keepWatching() {
  for (;;) {
    if (page.answers && !document.hidden) await watch().catch(() => {});
    await sleep(1000);
  }
}

/** Show pictures until the stream ends, the service is gone, or the page is out of sight. */
async function watch() {
  const over = new AbortController();
  const check = setInterval(() => {
    if (document.hidden || !page.answers) over.abort();
  }, 250);
  try {
    const answer = await fetch("/api/preview.mjpg", { signal: over.signal });
    if (answer.status === 401) lock();
    if (!answer.ok) return;
    const reader = answer.body.getReader();
    let rest = new Uint8Array(0);
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      let newest = null;
      rest = joined(rest, value);
      for (let part; (part = firstPart(rest)); rest = rest.subarray(part.end)) newest = part.jpeg;
      if (newest) showPicture(newest);
    }
  } finally {
    clearInterval(check);
    over.abort();
  }
}

function joined(first, second) {
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}

/** The first part of a multipart stream: its picture, and where it ends; null while it is not whole. */
function firstPart(bytes) {
  const head = String.fromCharCode(...bytes.subarray(0, 300));
  const blank = head.indexOf("\r\n\r\n");
  const length = /content-length: *(\d+)/i.exec(head.slice(0, Math.max(blank, 0)));
  if (blank < 0 || !length) return null;
  const [start, count] = [blank + 4, Number(length[1])];
  const end = start + count + 2;
  return bytes.length < end ? null : { jpeg: bytes.slice(start, start + count), end };
}

function showPicture(jpeg) {
  const image = $("picture");
  const before = image.src;
  image.src = URL.createObjectURL(new Blob([jpeg], { type: "image/jpeg" }));
  if (before) URL.revokeObjectURL(before);
  image.hidden = false;
  page.pictureMs = performance.now();
  showPictureAge();
}

function showPictureAge() {
  const age = performance.now() - page.pictureMs;
  const gone = !page.answers || !page.status?.stage;
  const old = gone || age > OLD_PICTURE_MS;
  const why = !page.answers ? "" : gone ? `: ${page.status.reason}` : isBusy() ? ": the microscope is at work" : "";
  const text = Number.isFinite(age) ? `No new picture for ${Math.round(age / 1000)} s${why}` : `No picture${why}`;
  $("picture").classList.toggle("old", old);
  setText($("no-picture"), old ? text : "");
}

// Beginning -----------------------------------------------------------------------------------------------

for (const step of STEPS_UM) {
  const button = made("button", signed(step));
  Object.assign(button, { type: "button", value: step });
  button.setAttribute("aria-label", `${signed(step)} µm`);
  button.addEventListener("click", () => jog(step));
  $("steps").append(button);
}
$("press").addEventListener("click", (event) => press(event.detail > 1));
$("jog").addEventListener("submit", (event) => {
  event.preventDefault();
  const distance = $("um").valueAsNumber;
  if (Number.isFinite(distance)) jog(distance);
  else $("problem-jog").textContent = "A number of µm is needed, such as -2.5.";
});
$("slide").value = localStorage.getItem("slide") ?? "";
$("slide").addEventListener("input", () => showCollect(page.status?.collect));
$("collect").addEventListener("submit", (event) => {
  event.preventDefault();
  collect();
});
$("hold").addEventListener("change", async () => {
  const done = await send("/api/hold", { on: $("hold").checked }, $("problem-act"));
  if (done === null && page.status) $("hold").checked = page.status.hold.on;
});
$("keys").checked = localStorage.getItem("keys") !== "off";
$("keys").addEventListener("change", () => localStorage.setItem("keys", $("keys").checked ? "on" : "off"));
$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  logIn($("token").value.trim(), $("problem-door"));
});
$("ask").addEventListener("click", () => $("door").showModal());
document.addEventListener("keydown", keyPressed);
document.addEventListener("visibilitychange", connect);
setInterval(showPictureAge, 1000);

show();
showCharts();
await logInByAddress();
if (!page.locked) await refresh(); // connects when it is let in
keepAsking();
keepWatching();
