package postgres

// Quiet is quiet.
var Quiet = quiet
