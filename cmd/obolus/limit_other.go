//go:build !unix

package main

// outlastLimits does nothing: there are no such limits here.
func outlastLimits() {}
