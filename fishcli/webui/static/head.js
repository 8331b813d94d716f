// Runs before Gradio: its labels, too, shall be in the language that was chosen.
"use strict";

{
  const chosen = localStorage.getItem("fish.language");
  if (chosen) {
    Object.defineProperty(navigator, "language", { get: () => chosen });
    Object.defineProperty(navigator, "languages", { get: () => [chosen] });
  }
  document.documentElement.lang = navigator.language;
}
