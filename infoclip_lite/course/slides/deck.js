"use strict";
// Arrows move through slides and their steps; a second window shows the speaker's notes and follows.
const root = document.documentElement;
const slides = [...document.querySelectorAll(".slide")];
const get = (id) => document.getElementById(id);
let at = 0, step = 0, other = window.opener;

const steps = (slide) => [...slide.querySelectorAll(".step")];

function show(place, opened, tell = true) {
  at = Math.max(0, Math.min(slides.length - 1, place));
  step = Math.max(0, Math.min(steps(slides[at]).length, opened));
  slides.forEach((slide, index) => slide.classList.toggle("here", index === at));
  steps(slides[at]).forEach((part, index) => part.classList.toggle("open", index < step));
  get("place").textContent = `${at + 1} / ${slides.length}`;
  root.classList.toggle("first", at === 0);
  history.replaceState(null, "", `#${at + 1}`);
  if (tell && other) other.postMessage({ deck: document.title, at, step }, "*");
}

function on() { step < steps(slides[at]).length ? show(at, step + 1) : show(at + 1, at + 1 < slides.length ? 0 : step); }
function back() { step > 0 ? show(at, step - 1) : at > 0 && show(at - 1, Infinity); }

function theme() {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
}

// Opened from a disk, two windows of one file are strangers: they may only send messages.
function speaker() {
  other = window.open(`${location.href.split("#")[0]}#${at + 1}-notes`, "speaker", "width=1200,height=700");
}

const keys = {
  ArrowRight: on, ArrowDown: on, PageDown: on, " ": on, Enter: on,
  ArrowLeft: back, ArrowUp: back, PageUp: back, Backspace: back,
  Home: () => show(0, 0), End: () => show(slides.length - 1, Infinity),
  n: () => root.classList.toggle("showing-notes"), s: speaker, d: theme,
  f: () => (document.fullscreenElement ? document.exitFullscreen() : root.requestFullscreen()),
};

addEventListener("keydown", (event) => {
  // A button that has the focus keeps Enter and space for itself; the browser keeps its own shortcuts.
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches?.("button, a") && [" ", "Enter"].includes(event.key)) return;
  if (event.target.matches?.(".table[tabindex]") && event.key.startsWith("Arrow")) return;
  const run = keys[event.key] ?? keys[event.key.toLowerCase()];
  if (run) { event.preventDefault(); run(); }
});
addEventListener("message", ({ source, data }) => {
  // Only the two windows of one deck listen to each other.
  if (source === other && data?.deck === document.title) show(data.at, data.step, false);
});
addEventListener("hashchange", () => show((parseInt(location.hash.slice(1)) || 1) - 1, 0));
// On a phone a wide table scrolls, and keys reach it.
const reach = () => document.querySelectorAll(".table").forEach((table) => {
  if (table.scrollWidth > table.clientWidth) table.tabIndex = 0;
  else table.removeAttribute("tabindex");
});
["load", "resize"].forEach((when) => addEventListener(when, reach));
get("on").addEventListener("click", on);
get("back").addEventListener("click", back);
root.classList.add("live");
root.classList.toggle("showing-notes", location.hash.endsWith("-notes"));
show((parseInt(location.hash.slice(1)) || 1) - 1, 0);
