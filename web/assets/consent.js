// Allow cannot be pressed before the page has been in view for a moment, each time it comes into view, so that a click or a
// key that was meant for something else allows nothing. Without this script the style holds the first moment.
"use strict";
const allow = document.querySelector("button.allow");
let timer;
const arm = () => {
	clearTimeout(timer);
	allow.disabled = true;
	if (document.visibilityState === "visible") {
		timer = setTimeout(() => { allow.disabled = false; }, 600);
	}
};
if (allow) {
	arm();
	let away = false;
	window.addEventListener("blur", () => { away = true; });
	window.addEventListener("focus", () => {
		if (away) {
			away = false;
			arm();
		}
	});
	window.addEventListener("pageshow", arm);
	document.addEventListener("visibilitychange", arm);
}
