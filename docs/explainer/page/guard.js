// What can be said when the page's own modules do not run: a plain script, so that it always does.
(() => {
  const say = (text) => {
    const notice = document.createElement("p");
    notice.className = "notice";
    notice.textContent = text;
    document.getElementById("notices").append(notice);
  };
  if (location.protocol === "file:") {
    say("Browsers run no modules from a file on disk. Serve the folder (for example “python -m http.server” in it) and open http://localhost:8000/. Until then the page stands still.");
    return;
  }
  const late = () => {
    if (!document.documentElement.dataset.started) {
      say("The page's modules did not start. The server must send .js files as “text/javascript”, and the browser must be one of the last few years. Until then the page stands still.");
    }
  };
  // Modules run before the page counts as loaded.
  window.addEventListener("load", late);
})();
