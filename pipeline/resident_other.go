//go:build !linux

package pipeline

func resident[T any]([]T) {}
