// The page: a form makes a request, its answer comes as lines of JSON, each shown as it comes.
import { picture } from "./picture.js";

const $ = (id) => document.getElementById(id);
const made = (tag, fields = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), fields);
  element.append(...children);
  return element;
};

const TASKS = {
  draw: { verb: "Draw", text: "What should it show?" },
  edit: { verb: "Edit", text: "What should be changed?", picture: true },
  fill: { verb: "Fill in", text: "What should the picture show?", picture: true, mask: true },
  describe: { verb: "Describe", picture: true, says: true },
  ask: { verb: "Ask", text: "What do you want to know?", picture: true, says: true },
};
const RULES = {
  guided: ["Guidance with top-p", ["guidance_scale", "temperature", "top_p"]],
  cdk: ["CD-K", ["cdk_k", "cdk_alpha", "expert_temperature", "amateur_temperature", "score_temperature"]],
  mixed: ["Half guidance, half CD-K", ["guidance_scale", "top_p", "cdk_k", "cdk_alpha"]],
  top_p: ["Top-p", ["temperature", "top_p"]],
  contrastive: ["Contrastive decoding", ["cdk_alpha", "expert_temperature", "amateur_temperature", "score_temperature"]],
  plain: ["Plain", ["temperature"]],
  greedy: ["Greedy", []],
};
const HINTS = {
  guided: "Moves each token away from what would be drawn without the text.",
  cdk: "Prefers tokens that the text makes likelier, among those near the k-th likeliest.",
  mixed: "Even samples by guidance, odd ones by CD-K.",
  top_p: "Draws from the likeliest tokens that together have this probability.",
  contrastive: "CD-K with k = 1: close to the likeliest token.",
  plain: "Draws from the model's own distribution.",
  greedy: "Always the likeliest token: every sample is the same.",
};
const NUMBERS = {
  guidance_scale: ["Guidance", 0.5, 0], image_guidance_scale: ["Image guidance", 0.5, 0], temperature: ["Temperature", 0.05, 0.05],
  top_p: ["Top-p", 0.05, 0.05], cdk_k: ["k", 1, 1], cdk_alpha: ["α", 0.05, 0.05], expert_temperature: ["Expert temp.", 0.05, 0.05],
  amateur_temperature: ["Amateur temp.", 0.05, 0.05], score_temperature: ["Score temp.", 0.05, 0.05],
};

let model;
let running = null; // AbortController of the request that is answered

const task = () => document.querySelector("input[name=task]:checked").value;

function showTask() {
  const { verb, text, picture: withPicture, mask } = TASKS[task()];
  for (const element of document.querySelectorAll(".for-text")) element.hidden = !text;
  if (text) document.querySelector("label.for-text").textContent = text;
  document.querySelector(".for-picture").hidden = !withPicture;
  for (const element of document.querySelectorAll(".for-mask")) element.hidden = !mask;
  document.querySelector(".for-retrieval").hidden = !model.retrieval || !["draw", "fill"].includes(task());
  picture.painting(Boolean(mask));
  $("go").textContent = verb;
  $("problem").hidden = true;
  showNumbers();
}

const values = {}; // of the sampling numbers, kept while others are shown

function showNumbers() {
  const rule = $("rule").value;
  const names = [...RULES[rule][1]];
  if (task() === "edit" && names.includes("guidance_scale")) names.splice(1, 0, "image_guidance_scale");
  $("rule_hint").textContent = HINTS[rule];
  $("numbers").replaceChildren(...names.map((name) => {
    const [label, step, min] = NUMBERS[name];
    const input = made("input", { type: "number", id: name, step, min, value: values[name] ?? model.sampling[name] });
    if (["top_p", "cdk_alpha"].includes(name)) input.max = 1;
    input.addEventListener("input", () => { values[name] = input.value; });
    return made("label", { textContent: `${label} ` }, input);
  }));
}

function requested() {
  const sampling = { rule: $("rule").value, seed: Number($("seed").value) };
  for (const input of $("numbers").querySelectorAll("input")) sampling[input.id] = Number(input.value);
  const request = { sampling, samples: Number($("samples").value) };
  const kind = task();
  if (kind === "edit") request.instruction = $("text").value;
  else if (kind === "ask") Object.assign(request, { task: "vqa", question: $("text").value, max_tokens: 32 });
  else if (TASKS[kind].text) request.prompt = $("text").value;
  if (TASKS[kind].picture) request.image = picture.source();
  if (kind === "fill") request.mask = picture.maskSource();
  if (model.retrieval && ["draw", "fill"].includes(kind)) request.retrieved = Number($("retrieved").value);
  return request;
}

function missing(request) {
  const kind = task();
  if (TASKS[kind].text && !$("text").value.trim()) return "Write a text first.";
  if (TASKS[kind].picture && !request.image) return "Choose a picture first.";
  if (kind === "fill" && !picture.painted()) return "Paint over what is to be drawn anew.";
  return "";
}

// An article for one request, and what each event does to it.
function newAnswer(request) {
  const title = request.prompt ?? request.instruction ?? request.question ?? "What does it show?";
  const about = [RULES[request.sampling.rule][0], `seed ${request.sampling.seed}`];
  if (request.retrieved) about.push(`${request.retrieved} retrieved`);
  const bar = made("progress", { max: 1, value: 0, ariaLabel: "Progress" });
  const state = made("p", { className: "hint", textContent: "Waiting…" });
  const documents = made("div");
  const samples = made("div");
  const element = made("article", {}, made("h2", { textContent: title }), made("p", { className: "about", textContent: about.join(" · ") }),
    bar, state, documents, samples);
  const drawn = new Map();
  const { says } = TASKS[task()]; // a text, not pictures
  const end = (text, error = "") => {
    bar.remove();
    state.textContent = text;
    if (error) state.replaceWith(made("p", { className: "error", role: "alert", textContent: error }));
    else if (!text) state.remove();
  };
  const show = {
    waiting: ({ before }) => { state.textContent = before ? `Behind ${before} others…` : "Starting; the first of its kind takes longer, its program is compiled…"; },
    documents: (event) => documents.replaceChildren(made("h3", { textContent: "Retrieved from the memory bank" }),
      made("div", { className: "figures small" }, ...event.documents.map((one) =>
        made("figure", {}, made("img", { src: one.image, alt: one.caption, title: one.caption }), made("figcaption", { textContent: one.caption }))))),
    progress: (event) => {
      bar.value = event.share;
      state.textContent = `${Math.round(100 * event.share)}%`;
      for (const sample of event.samples) drawn.set(sample.number, sample);
      const ordered = [...drawn.values()].sort((a, b) => a.number - b.number);
      samples.replaceChildren(says
        ? made("ol", { className: "texts" }, ...ordered.map((one) => made("li", { textContent: one.text })))
        : made("div", { className: "figures" }, ...ordered.map((one) => made("figure", {}, made("img", { src: one.image, alt: "unfinished" })))));
    },
    done: (event) => {
      end("");
      element.classList.add("done");
      if (says)
        samples.replaceChildren(made("ol", { className: "texts" }, ...event.samples.map((one) => made("li", { textContent: one.texts.at(-1) }))));
      else samples.replaceChildren(made("div", { className: "figures" }, ...event.samples.map((one, rank) => figure(one, rank, event.samples.length, title))));
    },
    error: (event) => end("", event.message),
  };
  return { element, end, show: (event) => show[event.event]?.(event) };
}

function figure(sample, rank, count, title) {
  const source = sample.images.at(-1);
  const caption = made("figcaption");
  if (sample.clip_score !== null) caption.append(made("strong", { textContent: `CLIP ${sample.clip_score.toFixed(3)}` }));
  else caption.append(`log p ${sample.logprob.toFixed(0)}`);
  if (count > 1 && rank === 0) caption.append(" ", made("span", { className: "best", textContent: "best" }));
  const use = (name) => made("button", { type: "button", textContent: TASKS[name].verb, onclick: () => useIn(name, source) });
  return made("figure", {}, made("img", { src: source, alt: title }), caption,
    made("div", { className: "row" }, use("edit"), use("fill"), use("describe"), use("ask"), made("a", { href: source, download: "cm3leon.png", textContent: "Save" })));
}

async function useIn(name, source) {
  document.querySelector(`input[name=task][value=${name}]`).checked = true;
  showTask();
  await picture.load(source);
  $("form").scrollIntoView({ behavior: "smooth", block: "nearest" });
}

async function ask(event) {
  event.preventDefault();
  if (running) return;
  const request = requested();
  const problem = missing(request);
  $("problem").textContent = problem;
  $("problem").hidden = !problem;
  if (problem) return;
  const answer = newAnswer(request);
  document.querySelector(".empty")?.remove();
  $("answers").prepend(answer.element);
  while ($("answers").children.length > 30) $("answers").lastElementChild.remove();
  running = new AbortController();
  $("go").disabled = true;
  $("cancel").hidden = false;
  try {
    const response = await fetch("/api/answer", {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(request), signal: running.signal,
    });
    let rest = "";
    let last = {};
    const lines = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let part = await lines.read(); !part.done; part = await lines.read()) {
      rest += part.value;
      const complete = rest.split("\n");
      rest = complete.pop();
      for (const line of complete) answer.show(last = JSON.parse(line));
    }
    if (rest) answer.show(last = JSON.parse(rest));
    if (!["done", "error"].includes(last.event)) answer.end("", "The server ended the answer early.");
  } catch (error) {
    answer.end(error.name === "AbortError" ? "Cancelled." : "", error.name === "AbortError" ? "" : "The server does not answer; is it still running?");
  } finally {
    running = null;
    $("go").disabled = false;
    $("cancel").hidden = true;
  }
}

model = await (await fetch("/api/model")).json();
$("facts").textContent = `${model.resolution} × ${model.resolution} pixels, ${model.grid[0] * model.grid[1]} tokens an image`
  + (model.retrieval ? ", with retrieval" : "");
$("samples").max = model.most_samples;
$("seed").value = model.sampling.seed;
$("rule").append(...model.rules.map((rule) => made("option", { value: rule, textContent: RULES[rule][0] })));
$("rule").value = model.sampling.rule;
$("rule").addEventListener("change", showNumbers);
$("dice").addEventListener("click", () => { $("seed").value = Math.floor(Math.random() * 2 ** 32); });
for (const input of document.querySelectorAll("input[name=task]")) input.addEventListener("change", showTask);
$("form").addEventListener("submit", ask);
$("cancel").addEventListener("click", () => running?.abort());
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("form").requestSubmit();
});
picture.ready(model.grid);
showTask();
document.body.dataset.ready = "yes";
